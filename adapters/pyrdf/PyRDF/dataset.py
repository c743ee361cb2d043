"""The arguments of RDataFrame: checked here, and made a `Source` that can travel."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from PyRDF import precompiled, remote
from PyRDF.errors import InputError, reason
from PyRDF.source import Empty, Files, Friend, Sample, Slice, Source, local

_SOURCES = "a number of entries, a TTree or TChain in files, an RNTuple, or an RDatasetSpec"


def open_dataset(arguments: tuple[Any, ...]) -> tuple[Any, Source]:
    """A local dataframe, which knows the columns, and the source for the workers.

    Raises:
        InputError: there is no such dataset, or it cannot be distributed.
    """
    import ROOT

    if not arguments:
        raise InputError(f"RDataFrame() needs {_SOURCES}")
    precompiled.load()  # what is booked here, to see that it can be, is compiled, too
    arguments = _plain(arguments)
    first = arguments[0]
    if isinstance(first, (int, float)):
        if not isinstance(first, int):
            raise InputError(f"the number of entries must be an int, not {first!r}")
        if first < 1:
            raise InputError(f"RDataFrame({first}) has no entries: there is nothing to distribute")
    if isinstance(first, ROOT.RDF.Experimental.RDatasetSpec):
        return _of_spec(first)
    if isinstance(first, ROOT.TTree):
        _check_tree(first)
        source = _of_tree(arguments)
        remote.check(_paths(source))
        return _glance(source) or _frame(arguments), source
    if isinstance(first, str):
        arguments = _of_paths(arguments)
        if isinstance(arguments[0], str) and any(map(remote.on_s3, arguments[1])):
            return _of_objects(*arguments)
    frame = _frame(arguments)
    label = str(ROOT.Internal.RDF.GetDataSourceLabel(ROOT.RDF.AsRNode(frame)))
    if label == "EmptyDS":
        return frame, Empty(int(first))
    if label == "RNTupleDS":
        return frame, Files(True, tuple((first, path) for path in arguments[1]))
    if label != "TTreeDS":
        raise InputError(f"{label or 'this'} cannot be distributed; RDataFrame takes {_SOURCES}")
    return frame, _of_tree(arguments)


def _plain(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Strings and lists of C++ as those of Python, and what else gives paths in an order."""
    import ROOT

    strings = (ROOT.std.string, ROOT.std.string_view)
    lists = (list, tuple, ROOT.std.vector[ROOT.std.string], Iterator, np.ndarray)
    made = []
    for argument in arguments:
        if isinstance(argument, (os.PathLike, *strings)):
            argument = str(argument)
        elif isinstance(argument, lists):
            argument = [str(item) for item in argument]
        made.append(argument)
    return tuple(made)


def _of_paths(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """(name, file or files or directory, ...) with the files found."""
    import ROOT

    if len(arguments) < 2:
        raise InputError(
            f"RDataFrame({arguments[0]!r}) names no file: the name of the tree comes first, then "
            f"its file or a list of files"
        )
    name, where, *more = arguments
    if more and isinstance(more[0], str):
        raise InputError(
            f"several files are given as a list, and default columns too: RDataFrame({name!r}, "
            f"[{where!r:.100}, {more[0]!r:.100}])"
        )
    if isinstance(where, str) and name.endswith(".root") and not where.endswith(".root"):
        raise InputError(
            f"the name of the tree comes first, then its file: RDataFrame({where!r}, {name!r})"
        )
    if isinstance(where, ROOT.TDirectory):
        tree = where.Get(name)
        if not isinstance(tree, ROOT.TTree):
            raise InputError(f"there is no tree {name!r} in {where.GetName()}")
        _check_tree(tree)
        return (tree, *more)
    if not isinstance(where, (str, list)):
        raise InputError(
            f"the files of {name!r} must be a path or a list of them, not {where!r:.60}"
        )
    paths = expand([where] if isinstance(where, str) else where)
    remote.check(paths)
    return (name, paths, *more)


def _of_objects(name: str, paths: list[str], *columns: Any) -> tuple[Any, Files]:
    """Some files are objects in S3, of which the first is fetched to see what is in it."""
    import ROOT

    remote.forget()
    frame = _frame((name, [local(paths[0])], *columns))
    ntuple = str(ROOT.Internal.RDF.GetDataSourceLabel(ROOT.RDF.AsRNode(frame))) == "RNTupleDS"
    default = tuple(columns[0]) if columns else ()
    return frame, Files(ntuple, tuple((name, path) for path in paths), columns=default)


def _paths(source: Files) -> list[str]:
    """Of the files, and of their friends."""
    friends = [path for friend in source.friends for path in friend.files]
    return [path for _, path in source.datasets] + friends


def _glance(source: Files) -> Any:
    """A dataframe of the first files where some are objects in S3, which ROOT cannot open."""
    import ROOT

    if not any(map(remote.on_s3, _paths(source))):
        return None
    remote.forget()
    friends = tuple(
        replace(friend, trees=friend.trees[:1], files=friend.files[:1]) for friend in source.friends
    )
    first = replace(
        source, datasets=source.datasets[:1], friends=friends, samples=source.samples[:1]
    )
    everything = ROOT.std.numeric_limits["Long64_t"].max()
    try:
        return first.open(Slice(0, 1, 0, everything, {}))
    except InputError:
        raise
    except Exception as error:  # C++ raises anything
        raise InputError(f"{source.datasets[0][1]}: {reason(error)}") from error


def expand(paths: Iterable[str]) -> list[str]:
    """Files, absolute where they are local; globs in order of the names.

    Raises:
        InputError: one does not exist, or a glob matches nothing.
    """
    paths = [str(path).removeprefix("file://") for path in paths]
    found: list[str] = []
    for path in paths:
        if "://" in path:
            found += remote.expand(path)
            continue
        file, _, inside = path.partition("?")  # file.root?#tree, as TChain.Add takes
        file = os.path.expandvars(os.path.expanduser(file))
        matches = [file] if os.path.exists(file) else sorted(glob.glob(file))
        if not matches:
            what = "file matches" if glob.has_magic(file) else "file"
            raise InputError(f"there is no {what} {file!r} (looked from {os.getcwd()})")
        found += [os.path.abspath(match) + (f"?{inside}" if inside else "") for match in matches]
    if not found:
        raise InputError("the list of files is empty")
    return found


def _frame(arguments: tuple[Any, ...]) -> Any:
    import ROOT

    try:
        return ROOT.RDataFrame(*arguments)
    except InputError:
        raise
    except Exception as error:  # C++ raises anything
        text = reason(error)
        if isinstance(error, TypeError) and "takes" in text:
            text = "these arguments are none of RDataFrame"
        shown = ", ".join(f"{argument!r:.100}" for argument in arguments)
        raise InputError(f"RDataFrame({shown}) cannot be made: {text}") from error


def _check_tree(tree: Any) -> None:
    import ROOT

    indexed, friend = ROOT.Internal.TreeUtils.TreeUsesIndexedFriends(tree)
    if indexed:
        raise InputError(
            f"the friend {str(friend)!r} has a TTreeIndex: entries are matched by value, and may "
            f"be anywhere in the dataset. Write a friend that is aligned by entry"
        )
    if tree.GetEntryList():
        raise InputError("a TTree with an entry list cannot be distributed; use Filter instead")


def _of_tree(arguments: tuple[Any, ...]) -> Files:
    import ROOT

    first, *more = arguments
    friends: tuple[Friend, ...] = ()
    if isinstance(first, ROOT.TTree):
        tree = first
        friends = _friends(ROOT.Internal.TreeUtils.GetFriendInfo(tree))
        columns = more[0] if more else []
    else:
        paths, *rest = more
        tree = ROOT.TChain(first)
        for path in paths:
            tree.Add(path)
        columns = rest[0] if rest else []
    names = [str(name) for name in ROOT.Internal.TreeUtils.GetTreeFullPaths(tree)]
    try:
        files = [str(path) for path in ROOT.Internal.TreeUtils.GetFileNamesFromTree(tree)]
    except Exception:  # so ROOT 6.40 says that there are none
        files = []
    if not files:
        raise InputError(
            f"the tree {tree.GetName()!r} is in memory only: write it to a file for the workers"
        )
    paths = [path for given in files for path in expand([given])]
    return Files(
        False,
        tuple(zip(names, paths, strict=True)),
        friends,
        columns=tuple(columns),
        whole=bool(friends),
    )


def _friends(info: Any) -> tuple[Friend, ...]:
    friends = []
    zipped = zip(info.fFriendNames, info.fFriendFileNames, info.fFriendChainSubNames, strict=True)
    for (name, alias), files, trees in zipped:
        paths = tuple(path for file in files for path in expand([str(file)]))
        names = tuple(map(str, trees)) or (str(name),) * len(paths)
        friends.append(Friend(names, paths, str(alias)))
    return tuple(friends)


def _of_spec(spec: Any) -> tuple[Any, Files]:
    import ROOT

    end = spec.GetEntryRangeEnd()
    if spec.GetEntryRangeBegin() != 0 or end != ROOT.std.numeric_limits["Long64_t"].max():
        raise InputError("an RDatasetSpec with a global range cannot be distributed; leave it out")
    friends = _friends(spec.GetFriendInfo())
    datasets: list[tuple[str, str]] = []
    samples: list[Sample] = []
    for sample in ROOT.Internal.RDF.MoveOutSamples(ROOT.RDF.Experimental.RDatasetSpec(spec)):
        name = str(sample.GetSampleName())
        metadata = str(ROOT.Internal.RDF.ExportJSON(sample.GetMetaData()))
        pairs = zip(sample.GetTreeNames(), sample.GetFileNameGlobs(), strict=True)
        for tree, pattern in pairs:
            for path in expand([str(pattern)]):
                datasets.append((str(tree), path))
                samples.append(Sample(name, metadata))
    source = Files(False, tuple(datasets), friends, tuple(samples), whole=bool(friends))
    remote.check(_paths(source))
    return _glance(source) or _frame((ROOT.RDF.Experimental.RDatasetSpec(spec),)), source
