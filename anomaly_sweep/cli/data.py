"""``anomaly-sweep-data``: write the synthetic data set, check a data set."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from anomaly_sweep import terminal
from anomaly_sweep.config import GenerateConf
from anomaly_sweep.datasets import (
    INDEX_FILE,
    FileIndex,
    Problem,
    check_dataset,
)
from anomaly_sweep.datasets.readers import FOLDER, count_images, open_root, reader_named
from anomaly_sweep.datasets.synthetic import generate
from anomaly_sweep.errors import DatasetError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv
        Arguments; those of the process if None.

    Returns
    -------
    int
        0: done, or nothing wrong; 1: ``check`` found problems; 2: the command cannot be carried out.
    """
    arguments = _parser().parse_args(argv)
    body = _check if arguments.command == "check" else _generate
    return terminal.run(lambda: body(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="anomaly-sweep-data", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("generate", help="write the synthetic data set in MVTec AD's layout")
    make.add_argument("root", type=Path, metavar="ROOT", help="folder to create")
    make.add_argument("--seed", type=int, default=GenerateConf.seed, help="default: %(default)s")
    make.add_argument(
        "--size", type=int, default=GenerateConf.size, help="image width and height (default: %(default)s)"
    )
    make.add_argument(
        "--n-train", type=int, default=GenerateConf.n_train, help="training images a category (%(default)s)"
    )
    make.add_argument(
        "--n-test-good",
        type=int,
        default=GenerateConf.n_test_good,
        help="good test images a category (%(default)s)",
    )
    make.add_argument(
        "--n-per-defect",
        type=int,
        default=GenerateConf.n_per_defect,
        help="images a defect type (%(default)s)",
    )
    check = commands.add_parser("check", help="open every file of a data set and list all problems")
    check.add_argument(
        "root", type=Path, metavar="ROOT", help="folder that holds the categories, or its archive"
    )
    check.add_argument("--categories", metavar="A,B", help="check only these")
    check.add_argument(
        "--input-size",
        type=_side,
        default=224,
        metavar="N",
        help="side in pixels that maps are evaluated at, as dataset.input_size (default: %(default)s)",
    )
    check.add_argument(
        "--center-crop", type=_side, metavar="N", help="as dataset.center_crop (default: none)"
    )
    check.add_argument(
        "--cache-dir",
        type=Path,
        default=Path(".anomaly_sweep"),
        metavar="DIR",
        help="compare contents with those remembered there, as runtime.cache_dir (default: %(default)s)",
    )
    check.add_argument(
        "--reader",
        default=FOLDER,
        metavar="NAME",
        help="whose layout it has, as in dataset=NAME (mvtec_ad, visa, ...); its official counts are "
        "compared with those found (default: %(default)s, MVTec AD's layout with any categories)",
    )
    return parser


def _generate(arguments: argparse.Namespace) -> int:
    generate(
        arguments.root,
        seed=arguments.seed,
        size=arguments.size,
        n_train=arguments.n_train,
        n_test_good=arguments.n_test_good,
        n_per_defect=arguments.n_per_defect,
    )
    terminal.say(f"synthetic data set: {arguments.root}")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    root: Path = arguments.root
    names: list[str] | None = None
    if arguments.categories is not None:
        names = [name.strip() for name in arguments.categories.split(",") if name.strip()]
        if not names:
            raise DatasetError("--categories names none: give names separated by commas, or leave it out")
    reader = reader_named(arguments.reader)
    root, known = open_root(root, reader)
    index = arguments.cache_dir.expanduser() / INDEX_FILE
    problems = check_dataset(
        root,
        names,
        reader=reader,
        input_size=arguments.input_size,
        center_crop=arguments.center_crop,
        index=FileIndex(index) if index.is_file() else None,
    )
    shown = [name for name in known if names is None or name in names]
    width = max([len("category"), *map(len, shown)])
    terminal.say(f"{'category':{width}}  train/good  test/good  test/defect  masks")
    for name in shown:
        try:
            category, _ = reader.scan(root, name, dataset=root.name)
        except DatasetError:  # it is among the problems
            continue
        counts = count_images(category)
        masks = sum(bool(record.masks) for record in category.test)
        terminal.say(f"{name:{width}}  {counts[0]:10d}  {counts[1]:9d}  {counts[2]:11d}  {masks:5d}")
    serious = [problem for problem in problems if problem.serious]
    _list(f"{len(serious)} problem(s)", serious)
    if remarks := [problem for problem in problems if not problem.serious]:
        _list(f"{len(remarks)} remark(s): the data can be used as they are", remarks)
    return int(bool(serious))


def _list(title: str, problems: Sequence[Problem]) -> None:
    terminal.say(title)
    for problem in problems:
        terminal.say(f"  {problem.category + ': ' if problem.category else ''}{problem.message}")


def _side(text: str) -> int:
    side = int(text)
    if side < 1:
        raise argparse.ArgumentTypeError("give a number of pixels")
    return side


if __name__ == "__main__":
    sys.exit(main())
