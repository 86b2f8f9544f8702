"""What every place promises, and where a store may be."""

import errno
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from moe.files import PARTIAL
from moe.store.files import MOST, Local, PlaceError, Remote
from moe.store.location import checked, default_location, place_at
from moe.store.tolerant import TolerantFiles
from tests.store_helpers import Faulty

KINDS = ("folder", "memory", "local", "s3")
NOTHING = "nothing/here"


@pytest.fixture(params=KINDS)
def place(request, tmp_path):
    """An empty place of each kind."""
    name = uuid.uuid4().hex
    if request.param == "folder":
        return Local(tmp_path / name)
    if request.param == "s3":
        return Remote(f"{request.getfixturevalue('s3')}/{name}")
    return Remote({"memory": f"memory://{name}", "local": f"local://{tmp_path / name}"}[request.param])


class TestEveryPlace:
    def test_what_is_written_is_read_back(self, place):
        content = os.urandom(300_000)
        assert place.create("a/b/created", content)
        place.replace("a/b/replaced", content)
        place.replace("empty", b"")
        assert place.read("a/b/created") == place.read("a/b/replaced") == content
        assert place.read("empty") == b""

    def test_what_is_not_there_reads_as_none(self, place):
        assert place.read(NOTHING) is None
        place.replace("a/b", b"x")
        assert place.read("a/c") is None
        assert place.read("c/a/b") is None

    def test_create_replaces_nothing_and_says_so(self, place):
        assert place.create("a/b", b"first") is True
        assert place.create("a/b", b"second") is False
        assert place.read("a/b") == b"first"

    def test_replace_replaces(self, place):
        place.create("a/b", b"first")
        place.replace("a/b", b"second, and longer")
        place.replace("a/b", b"third")
        assert place.read("a/b") == b"third"
        assert place.files("a") == {"b": 5}

    def test_a_place_that_was_empty_has_no_files_and_no_folders(self, place):
        assert (place.files(""), place.folders("")) == ({}, [])
        assert (place.files(NOTHING), place.folders(NOTHING)) == ({}, [])

    def test_only_direct_children_are_listed_with_their_sizes(self, place):
        for path in ("top", "a/one", "a/two", "a/b/three", "a/b/c/four", "ab/five"):
            place.replace(path, path.encode())
        assert place.files("") == {"top": 3}
        assert place.folders("") == ["a", "ab"]
        assert place.files("a") == {"one": 5, "two": 5}
        assert place.folders("a") == ["b"]
        assert place.files("a/b/c") == {"four": 10}
        assert place.folders("a/b/c") == []

    def test_a_listing_is_of_now(self, place):
        for number in range(3):
            place.replace(f"a/{number}", b"x")
            assert len(place.files("a")) == number + 1
        place.remove("a/1")
        assert sorted(place.files("a")) == ["0", "2"]

    def test_a_removed_file_is_gone(self, place):
        place.replace("a/b", b"x")
        place.replace("a/c", b"x")
        place.remove("a/b")
        assert place.read("a/b") is None
        assert place.files("a") == {"c": 1}

    def test_removing_nothing_is_nothing(self, place):
        place.remove(NOTHING)
        assert place.files("nothing") == {}

    def test_a_file_can_be_created_again_where_one_was_removed(self, place):
        place.create("a/b", b"first")
        place.remove("a/b")
        assert place.create("a/b", b"second") is True

    def test_of_eight_that_create_one_file_exactly_one_is_first(self, place):
        if "local://" in place.name:
            pytest.skip("fsspec's own local files are not created in one step")
        with ThreadPoolExecutor(8) as pool:
            for race in range(5):
                told = list(pool.map(lambda number, race=race: place.create(f"race/{race}", b"%d" % number), range(8)))
                assert told.count(True) == 1
                assert place.read(f"race/{race}") == b"%d" % told.index(True)

    def test_of_eight_that_replace_one_file_one_stays_whole(self, place):
        if "local://" in place.name:
            pytest.skip("fsspec's own local files are not replaced in one step")
        contents = [bytes([number]) * 100_000 for number in range(8)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda content: place.replace("one", content), contents))
        assert place.read("one") in contents

    @pytest.mark.parametrize(("path", "most"), [("a/chain-0001.json", False), ("a/b.safetensors", True)])
    def test_a_file_that_is_too_large_is_read_as_empty(self, place, path, most, monkeypatch):
        monkeypatch.setitem(MOST, most, 1000)
        place.replace(path, b"x" * 1000)
        assert place.read(path) == b"x" * 1000
        place.replace(path, b"x" * 1001)
        assert place.read(path) == b""


class TestPlacesThatFail:
    """Each says so with a PlaceError that begins with the place's name."""

    def refuses(self, place, *, reads=True):
        for operation in (
            lambda: place.create("a/b", b"x"),
            lambda: place.replace("a/b", b"x"),
            *((lambda: place.read("a/b"), lambda: place.files("a")) if reads else ()),
        ):
            with pytest.raises(PlaceError, match=f"^{place.name}: ."):
                operation()

    @pytest.mark.parametrize("kind", ["folder", "local"])
    def test_a_folder_that_cannot_be_made(self, kind, tmp_path):
        (tmp_path / "file").write_text("in the way")
        below = tmp_path / "file" / "store"
        self.refuses(Local(below) if kind == "folder" else Remote(f"local://{below}"), reads=False)

    def test_a_full_disk(self, tmp_path, monkeypatch):
        place = Local(tmp_path / "store")
        place.replace("a/kept", b"x")

        def full(_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        for write in (place.create, place.replace):
            with pytest.raises(PlaceError, match="No space left on device"):
                write("a/b", b"x")
        assert sorted(path.name for path in (tmp_path / "store" / "a").iterdir()) == ["kept"]

    def test_a_server_that_cannot_be_reached(self, monkeypatch):
        import s3fs

        monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        s3fs.S3FileSystem.clear_instance_cache()
        self.refuses(Remote("s3://bucket/store"))
        s3fs.S3FileSystem.clear_instance_cache()

    def test_a_bucket_that_is_not_there_cannot_be_written(self, s3):
        self.refuses(Remote("s3://no-such-bucket/store"), reads=False)


class TestTolerantFiles:
    def test_a_moved_file_is_at_its_new_path_alone(self, place):
        files = TolerantFiles(place, pytest.fail, 0)
        place.replace("a/b", b"x")
        assert files.move("a/b", "aside/a/1-b") is True
        assert (place.read("a/b"), place.read("aside/a/1-b")) == (None, b"x")
        assert files.move(NOTHING, "aside/it") is False
        assert place.files("aside") == {}

    def test_after_a_failure_that_kind_of_operation_rests_ten_times_as_long_as_the_failure_took(self, monkeypatch):
        place, warned, now = Faulty(Local(Path("/nowhere")), 1, "once"), [], [0.0]
        monkeypatch.setattr("moe.store.tolerant.time.monotonic", lambda: now[0])
        files = TolerantFiles(place, warned.append, 600)

        def fail(path):
            now[0] += 2
            raise PlaceError("no answer")

        monkeypatch.setattr(place, "read", fail)
        assert files.read("a") is None
        monkeypatch.setattr(place, "read", lambda _: b"x")
        now[0] = 21.9
        assert files.read("a") is None
        now[0] = 22.0
        assert files.read("a") == b"x"
        assert len(warned) == 1


class TestFolder:
    def test_it_leaves_no_partial_file_behind(self, tmp_path):
        place = Local(tmp_path)
        place.create("a/b", b"x")
        place.create("a/b", b"y")
        place.replace("a/b", b"z")
        place.replace("a/c", b"z")
        assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["b", "c"]

    def test_a_reader_beside_a_writer_sees_whole_files_only(self, tmp_path):
        place = Local(tmp_path)
        contents = [bytes([number]) * 500_000 for number in range(20)]
        place.replace("one", contents[0])
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(lambda: [place.replace("one", content) for content in contents])
            reads = 0
            while not writing.done() or not reads:
                assert place.read("one") in contents
                reads += 1

    def test_without_hard_links_create_still_replaces_nothing(self, tmp_path, monkeypatch):
        place = Local(tmp_path)

        def unknown(*_):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", unknown)
        assert place.create("a/b", b"first") is True
        assert place.create("a/b", b"second") is False
        assert place.read("a/b") == b"first"
        assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["b"]

    def test_a_partial_file_is_hidden_by_its_name(self):
        assert PARTIAL.startswith(".")


class TestLocation:
    def test_a_path_becomes_a_folder_and_is_absolute(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        assert checked("stages") == str(tmp_path / "stages")
        assert checked("~/stages") == str(tmp_path / "home" / "stages")
        assert checked(f"file://{tmp_path}") == str(tmp_path)
        assert isinstance(place_at("stages"), Local)
        assert list(tmp_path.iterdir()) == []  # nothing is opened

    def test_azures_container_at_account_is_no_credential(self, monkeypatch):
        monkeypatch.setattr("moe.store.location._check_scheme", lambda _: None)  # it needs a package of its own
        for scheme in ("abfs", "abfss"):
            assert checked(f"{scheme}://stages@lab.dfs.core.windows.net/a").startswith(scheme)

    def test_a_url_is_left_as_it_is(self):
        assert checked("memory://stages/of-mine") == "memory://stages/of-mine"
        assert place_at("s3://bucket/stages").name == "s3://bucket/stages"

    @pytest.mark.parametrize(
        ("location", "says"),
        [
            ("", "^''; expected a folder or a URL"),
            ("  ", "^'  '; expected a folder or a URL"),
            ("{file}", "^/.*/file, which is a file; expected a folder or a URL"),
            ("file://localhost/tmp/s", "which has a host; expected file:///"),
            ("file://{file}", "/file, which is a file; expected a folder or a URL"),
            ("nowhere://stages", "^nowhere://stages; expected .* such as s3://"),
            ("s3://key:secret@bucket/stages", "^s3://.*credentials"),
            ("s3://key@bucket", "^s3://.*credentials"),
            ("abfs://name:secret@account/stages", "^abfs://.*credentials"),
            ("simplecache::s3://key:secret@bucket", "^simplecache::s3://.*credentials"),
            ("https://host/stages?sig=secret", "^https://.*query.*AZURE_STORAGE_SAS_TOKEN"),
        ],
    )
    def test_what_is_no_location_is_refused_in_a_sentence_that_names_it(self, location, says, tmp_path):
        (tmp_path / "file").write_text("x")
        with pytest.raises(ValueError, match=says) as refused:
            checked(location.format(file=tmp_path / "file"))
        assert "secret" not in str(refused.value)

    def test_the_default_is_the_users_own_or_what_moe_store_names(self, monkeypatch, tmp_path):
        monkeypatch.delenv("MOE_STORE", raising=False)
        monkeypatch.setenv("MOE_CACHE", str(tmp_path))
        assert default_location() == str(tmp_path / "stages")
        monkeypatch.delenv("MOE_CACHE")
        assert default_location().endswith("moe/stages")
        monkeypatch.setenv("MOE_STORE", "s3://bucket/ours")
        assert default_location() == "s3://bucket/ours"
