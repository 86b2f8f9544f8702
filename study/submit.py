"""`python -m study.submit`: a study on a cluster. See `study/cluster/`."""

import sys

from study.cluster.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
