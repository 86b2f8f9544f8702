"""What several test files share: few images, a small data set, a config that trains in a second."""

import gc
import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.few_images import sitecustomize as few_images  # isort: skip  # before moe is imported
from moe.config import CLASSES, Config
from moe.data import DataSet

os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # loopback only; no token file in the home folder
path = [str(Path(few_images.__file__).parent), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, path))  # the processes that tests start have few images too
os.environ.pop("COLUMNS", None)  # 80 where tests run in several processes: output to a pipe is wider
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:  # as a shell starts what runs in its background, and nohup all
        signal.signal(number, usual)


#: modules that take half a minute or more, the longest first
LONG = (
    *("test_run_kills", "test_faults", "test_headless", "test_cluster", "test_training", "test_benchmarks"),
    *("test_analyze", "test_tour", "test_remote_runs", "test_ask", "test_tune"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long modules: the last one to begin is waited for."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # for tests that call the training loop itself; a run sets it for its own threads


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where data are kept during the tests, for all processes of the tests and those they start."""
    base = tmp_path_factory.getbasetemp()
    os.environ["MOE_CACHE"] = str((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache")
    os.environ.pop("CIFAR10_DIR", None)
    return Path(os.environ["MOE_CACHE"])


@pytest.fixture(scope="session", autouse=True)
def _ray_folder() -> Iterator[None]:
    """A folder of Ray's own with a short path: its sockets allow no more than 107 bytes."""
    os.environ["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    yield
    shutil.rmtree(os.environ.pop("RAY_TMPDIR"), ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def _unfreeze() -> Iterator[None]:
    """A driver freezes what is imported, which is meant to end with its process; these tests go on after it."""
    yield
    gc.unfreeze()


def coloured(images: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy images whose mean colour tells their class: learnable in an epoch, never perfectly."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % CLASSES
    colours = torch.rand(CLASSES, 3, 1, 1, generator=torch.Generator().manual_seed(0)) * 160
    noise = torch.rand(images, 3, 32, 32, generator=draw) * 95
    return (colours[labels] + noise).byte().contiguous(memory_format=torch.channels_last), labels


def small_data() -> DataSet:
    """6,000 training and 200 test images."""
    return DataSet("coloured", *coloured(6000, 1), *coloured(200, 2), fingerprint="f" * 64, source="made up")


@pytest.fixture(scope="session")
def data() -> DataSet:
    """The small data set, drawn once."""
    return small_data()


@pytest.fixture(scope="session")
def tiny() -> Config:
    """Two epochs of three batches."""
    return Config(epochs=2, train_examples=60, test_examples=20, batch_size=20)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a server that speaks like S3; s3fs keeps its connection, so there is one for all modules."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def s3(s3_server: str) -> Iterator[str]:
    """A bucket in that server, which is in the environment of this module's tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", s3_server)
        patch.delenv("AWS_PROFILE", raising=False)
        import s3fs

        s3fs.S3FileSystem().makedirs("bucket", exist_ok=True)
        yield "s3://bucket"
