"""Datasets, as they travel, and how a worker opens a range of one.

A range is a part of the list of files: ``1/2 <= position < 3`` is the second half of the first file
and all of the next two. Only the worker opens the files; there, positions become entries, aligned
to clusters, so that nothing is unpacked twice. A position has one meaning for the range that ends
and for the one that begins there, so no entry is lost or counted twice.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from PyRDF import native, remote

Position = int | Fraction


@dataclass(frozen=True)
class Range:
    """A partition: the entries (of an `Empty`) or the positions ``begin <= p < end``."""

    number: int
    begin: Position
    end: Position


@dataclass(frozen=True)
class Slice:
    """What a range is, once the files are known.

    Attributes:
        first, last: the files ``first <= i < last`` are opened.
        begin, end: the entries ``begin <= e < end`` of these, counted from the first one's.
        counts: entries of the files that the range touches, by index.
    """

    first: int
    last: int
    begin: int
    end: int
    counts: dict[int, int]

    @property
    def entries(self) -> int:
        """How many."""
        return self.end - self.begin


@dataclass(frozen=True)
class Empty:
    """No dataset: so many entries, for columns that are defined."""

    entries: int
    rebinds = True

    def slice(self, part: Range) -> Slice:
        """The entries of a range."""
        begin, end = int(part.begin), int(part.end)
        return Slice(0, 0, begin, end, {})

    def open(self, piece: Slice) -> Any:
        """A dataframe of these entries."""
        import ROOT

        frame = ROOT.RDataFrame(self.entries)
        self.rebind(frame, piece)
        return frame

    def open_natively(self, piece: Slice) -> native.Frame:
        """The same for `PyRDF.native`."""
        frame = native.Frame.of_nothing(self.entries)
        self.rebind(frame, piece)
        return frame

    def rebind(self, frame: Any, piece: Slice) -> None:
        """Make a dataframe that has not run one of other entries."""
        if isinstance(frame, native.Frame):
            frame.rebind_empty(piece.begin, piece.end)
            return
        import ROOT

        ROOT.Internal.RDF.ChangeEmptyEntryRange(ROOT.RDF.AsRNode(frame), (piece.begin, piece.end))

    def nothing(self) -> Slice:
        """A slice without entries."""
        return Slice(0, 0, 0, 0, {})

    def where(self, piece: Slice) -> str:
        """For messages."""
        return f"entries {piece.begin} to {piece.end - 1}"


@dataclass(frozen=True)
class Friend:
    """Trees that are read beside the main ones."""

    trees: tuple[str, ...]
    files: tuple[str, ...]
    alias: str


@dataclass(frozen=True)
class Sample:
    """Files of an RDatasetSpec that share a name and metadata (JSON)."""

    name: str
    metadata: str


@dataclass(frozen=True)
class Files:
    """Trees or RNTuples in files.

    Attributes:
        ntuple: whether they are RNTuples.
        datasets: (name in the file, path or URL), in order.
        friends: beside the trees.
        samples: one for each dataset, or none at all.
        columns: the default columns of the dataframe.
        whole: each range opens all files up to its own, since friends, or ``rdfentry_``, count
            from the first entry of the dataset.
    """

    ntuple: bool
    datasets: tuple[tuple[str, str], ...]
    friends: tuple[Friend, ...] = ()
    samples: tuple[Sample, ...] = ()
    columns: tuple[str, ...] = ()
    whole: bool = False

    @property
    def rebinds(self) -> bool:
        """Whether `rebind` works: ROOT 6.40 cannot change the range of an RNTuple."""
        return not self.ntuple

    @property
    def remote(self) -> bool:
        """Whether ROOT reads some file over the network, for which it may start threads."""
        return any(remote.on_network(path) for _, path in self.datasets)

    def slice(self, part: Range) -> Slice:
        """The entries of a range: opens its files."""
        first, last = math.floor(part.begin), math.ceil(part.end)
        counts: dict[int, int] = {}
        begin = end = before = 0
        for index in range(0 if self.whole else first, last):
            name, path = self.datasets[index]
            clusters = _clusters(self.ntuple, name, local(path))
            entries = clusters[-1]
            if index >= first:
                counts[index] = entries
                here = _aligned(clusters, max(part.begin - index, Fraction(0)))
                if index == first:
                    begin = before + here
                end = before + _aligned(clusters, min(part.end - index, Fraction(1)))
            before += entries
        return Slice(0 if self.whole else first, last, begin, end, counts)

    def open(self, piece: Slice) -> Any:
        """A dataframe of these entries."""
        import ROOT

        if self.ntuple:
            paths = [local(path) for _, path in self.datasets[piece.first : piece.last]]
            name = self.datasets[0][0]
            bounds = (piece.begin, piece.end)
            return ROOT.Internal.RDF.FromRNTuple(name, paths, bounds)
        if not self.columns:
            return ROOT.RDataFrame(self._spec(piece))
        name, path = self.datasets[piece.first]
        frame = ROOT.RDataFrame(name, local(path), list(self.columns))
        self.rebind(frame, piece)
        return frame

    def open_natively(self, piece: Slice) -> native.Frame:
        """The same for `PyRDF.native`."""
        if self.ntuple:
            paths = [local(path) for _, path in self.datasets[piece.first : piece.last]]
            return native.Frame.of_ntuple(self.datasets[0][0], paths, piece.begin, piece.end)
        if not self.columns:
            return native.Frame.of_spec(self._native_spec(piece))
        name, path = self.datasets[piece.first]
        frame = native.Frame.of_tree(name, local(path), self.columns)
        self.rebind(frame, piece)
        return frame

    def rebind(self, frame: Any, piece: Slice) -> None:
        """Make a dataframe that has not run one of other entries."""
        if isinstance(frame, native.Frame):
            frame.rebind_spec(self._native_spec(piece))
            return
        import ROOT

        ROOT.Internal.RDF.ChangeSpec(ROOT.RDF.AsRNode(frame), ROOT.std.move(self._spec(piece)))

    def nothing(self) -> Slice:
        """A slice without entries, of the first file.

        Of RNTuples that of the first that has entries, too: ROOT 6.40 crashes without any.

        Raises:
            ValueError: none of them has.
        """
        if not self.ntuple:
            return Slice(0, 1, 0, 0, {})
        for last, (name, path) in enumerate(self.datasets, 1):
            if _clusters(True, name, local(path))[-1]:
                return Slice(0, last, 0, 0, {})
        raise ValueError(f"the dataset ({self.datasets[0][0]}) has no entries in any file")

    def where(self, piece: Slice) -> str:
        """For messages."""
        paths = [path for _, path in self.datasets[piece.first : piece.last]]
        shown = ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
        return f"entries {piece.begin} to {piece.end - 1} of {shown}"

    def _spec(self, piece: Slice) -> Any:
        import ROOT

        spec = ROOT.RDF.Experimental.RDatasetSpec()
        for sample, datasets in self._samples(piece):
            names, paths = map(list, zip(*datasets, strict=True))
            if sample is None:
                spec.AddSample(("", names, paths))
            else:
                metadata = ROOT.RDF.Experimental.RMetaData()
                ROOT.Internal.RDF.ImportJSON(metadata, sample.metadata)
                spec.AddSample((sample.name, names, paths, metadata))
        spec.WithGlobalRange((piece.begin, piece.end))
        for friend in self.friends:
            spec.WithGlobalFriends(list(friend.trees), list(map(local, friend.files)), friend.alias)
        return spec

    def _native_spec(self, piece: Slice) -> native.Spec:
        spec = native.Spec()
        for sample, datasets in self._samples(piece):
            spec.add_sample(
                sample.name if sample else "", sample.metadata if sample else None, datasets
            )
        spec.set_range(piece.begin, piece.end)
        for friend in self.friends:
            spec.add_friends(friend.trees, tuple(map(local, friend.files)), friend.alias)
        return spec

    def _samples(self, piece: Slice) -> Iterator[tuple[Sample | None, list[tuple[str, str]]]]:
        """Neighbours that share a sample, with their files where ROOT is to open them."""
        datasets = self.datasets[piece.first : piece.last]
        samples = self.samples[piece.first : piece.last] or (None,) * len(datasets)
        pairs = zip(samples, datasets, strict=True)
        for sample, group in itertools.groupby(pairs, key=lambda pair: pair[0]):
            yield sample, [(name, local(path)) for _, (name, path) in group]


Source = Empty | Files


def cut(source: Source, npartitions: int) -> list[Range]:
    """Balanced ranges: by entries where they are known, else by files."""
    if isinstance(source, Empty):
        size = min(npartitions, source.entries)
        marks: list[Position] = [i * source.entries // size for i in range(size + 1)]
    else:
        marks = [Fraction(i * len(source.datasets), npartitions) for i in range(npartitions + 1)]
    return [Range(i, a, b) for i, (a, b) in enumerate(itertools.pairwise(marks))]


@functools.lru_cache(4096)
def _clusters(ntuple: bool, name: str, path: str) -> tuple[int, ...]:
    """The first entry of each cluster, and the number of entries."""
    if native.started():
        found = native.clusters(ntuple, name, path)
        return found if found[-1] else (0,)
    import ROOT

    if ntuple:
        if not ROOT.RNTupleReader.Open(name, path).GetNEntries():
            return (0,)  # ROOT 6.40 aborts where there are no clusters
        of_ntuple = ROOT.Internal.RDF.GetClustersAndEntries(name, path)
        return (0, *(int(cluster.fLastEntryPlusOne) for cluster in of_ntuple.first))
    clusters, entries = ROOT.Internal.TreeUtils.GetClustersAndEntries(name, path)
    return (*(int(cluster) for cluster in clusters), int(entries)) if entries else (0,)


def entries_of(name: str, path: str) -> int:
    """The entries of a tree or RNTuple in a local file; an event loop over none may crash."""
    import ROOT

    with ROOT.TFile.Open(path) as file:
        found = file.Get(name)
        if isinstance(found, ROOT.TTree):
            return int(found.GetEntries())
    return int(ROOT.RNTupleReader.Open(name, path).GetNEntries())


def forget_files() -> None:
    """Files may have changed since they were opened."""
    _clusters.cache_clear()
    remote.forget()


def copy_structure(name: str, path: str, to: str) -> None:
    """Write a tree like this one, without its entries, into a new local file."""
    if native.started():
        native.copy_structure(name, local(path), to)
        return
    import ROOT

    with ROOT.TFile.Open(local(path)) as file, ROOT.TFile.Open(to, "RECREATE") as copied:
        tree = file.Get(name)
        if not isinstance(tree, ROOT.TTree):
            raise RuntimeError(f"there is no tree {name!r}")
        directory, _, own = name.rpartition("/")
        (copied.mkdir(directory) if directory else copied).cd()
        empty = tree.CloneTree(0)
        empty.SetName(own)
        empty.Write()


def local(path: str) -> str:
    """What ROOT is to open: of an object in S3 a local copy."""
    if remote.on_s3(path):
        return remote.fetch(path)
    if remote.on_network(path):
        remote.prepare()
    elif not os.path.exists(path.partition("?")[0]):
        raise FileNotFoundError(
            f"there is no file {path} where this worker runs; give files as s3:// or root://, or "
            f"on a file system that it has, too"
        )
    return path


def _aligned(clusters: tuple[int, ...], part: Position) -> int:
    """The entry at which a cluster begins, at or after this part of the file."""
    return clusters[bisect_left(clusters, math.floor(part * clusters[-1]))]
