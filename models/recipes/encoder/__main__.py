"""The routing encoder: `python -m recipes.encoder COMMAND --help` (torch; see models/README.md)."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from recipes.encoder.bert import Bert, read
from recipes.encoder.export import average, export, restore
from recipes.encoder.general import General
from recipes.encoder.loco import leave_groups_out
from recipes.encoder.measures import held_out, score
from recipes.encoder.methods import METHODS
from recipes.encoder.rerank import milliseconds, table
from recipes.encoder.sources import sources
from recipes.encoder.states import encode
from recipes.encoder.train import Plan, train
from recipes.material import GROUPS
from recipes.minilm_onnx import source_folder
from ruvllm.agents.catalog import builtin_agents, card


def _train(arguments: argparse.Namespace) -> None:
    plan = Plan(
        arguments.method,
        arguments.data,
        source_folder(),
        arguments.out,
        frozenset(arguments.without),
        stop_early=not arguments.all_steps,
        seed=arguments.seed,
        steps=arguments.steps,
        minutes=arguments.minutes,
        resume=arguments.resume,
        states=arguments.states,
        start=arguments.start,
    )
    folder = train(plan)
    if folder is not None:
        print(f"finished: {folder}")


def _folds(arguments: argparse.Namespace) -> None:
    sizes: dict[str, int] = {}
    for source in sources(arguments.data).values():
        sizes[source.fold] = sizes.get(source.fold, 0) + len(source.prompts)
    group_of = {fold: group for group, folds in GROUPS.items() for fold in (*folds, f"more {group}")}
    for fold, prompts in sorted(sizes.items(), key=lambda pair: group_of.get(pair[0], "-")):
        print(f"{group_of.get(fold, '-')}  {prompts:5} prompts  {fold}")


def _measure(arguments: argparse.Namespace) -> None:
    """Print and write a row for the untouched model, and one for each model and share."""
    source = read(source_folder())
    models: dict[str, Bert] = {"untouched": source}
    for folder in arguments.models:
        tuned = read(folder)
        models |= {f"{folder} x {share}": average(source, tuned, share) for share in arguments.shares}
    held = held_out(arguments.data, set(arguments.folds))
    general = General(arguments.data) if arguments.general else None
    rows = []
    for name, model in models.items():
        row: dict[str, object] = {"model": name}
        if held:
            found = score(held, lambda ids, model=model: encode(model, ids, short=True))  # type: ignore[misc]
            row |= asdict(found)
        if general is not None:
            row |= general.measure(lambda ids, model=model: encode(model, ids, short=True))  # type: ignore[misc]
        rows.append(row)
        print("  ".join(f"{key} {value:.4g}" if isinstance(value, float) else str(value) for key, value in row.items()))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")


def _loco(arguments: argparse.Namespace) -> None:
    """Print and write the full hybrid's figures, with the groups' encoders and with the untouched one."""
    source = source_folder()
    chosen = {group: arguments.runs / group / "model" for group in GROUPS}
    rows = {}
    for name, folders in (("untouched", dict.fromkeys(GROUPS, source)), ("tuned", chosen)):
        if name == "untouched" and not arguments.untouched:
            continue
        rows[name] = leave_groups_out(arguments.data, folders, arguments.share, arguments.adapters)
        print(name, rows[name], flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")


def _export(arguments: argparse.Namespace) -> None:
    agents = builtin_agents()
    texts = [text for agent in agents for text in (card(agent), *agent.examples[:2])]
    found = export(source_folder(), arguments.model, arguments.out, arguments.share, texts)
    (arguments.out / "export.json").write_text(json.dumps(found | {"share": arguments.share}) + "\n", "utf-8")
    print(found)


def _restore(arguments: argparse.Namespace) -> None:
    restore(arguments.graph, source_folder(), arguments.out)


def _rerank(arguments: argparse.Namespace) -> None:
    source = source_folder()
    depth = read(source).depth
    for layers in (depth, depth - arguments.joined):
        print(f"{layers} layers over five pairs: {milliseconds(source, layers):.1f} ms", flush=True)
    for row in table(arguments.data, source, arguments.runs, arguments.steps, arguments.joined):
        print(row.line(), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m recipes.encoder", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    given = argparse.ArgumentParser(add_help=False)
    given.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the training data")

    command = commands.add_parser("train", parents=[given], help="train one encoder")
    command.add_argument("--method", choices=sorted(METHODS), required=True)
    command.add_argument("--out", type=Path, required=True, help="folder of the checkpoint and the finished model")
    command.add_argument("--without", nargs="*", default=[], metavar="FOLD", help="folds to leave out and stop by")
    command.add_argument("--all-steps", action="store_true", help="do not stop early")
    command.add_argument("--steps", type=int, help="instead of the method's own number")
    command.add_argument("--minutes", type=float, help="stop after that long, to be resumed")
    command.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--start", type=Path, metavar="FOLDER", help="a model whose trained layers to go on from")
    command.add_argument("--states", type=Path, default=Path(".cache"), help="folder for what is computed once")
    command.set_defaults(run=_train)

    command = commands.add_parser("folds", parents=[given], help="the collections that can be left out, by group")
    command.set_defaults(run=_folds)

    command = commands.add_parser("measure", parents=[given], help="models against the untouched one")
    command.add_argument("models", nargs="*", type=Path, metavar="FOLDER")
    command.add_argument("--folds", nargs="*", default=[], metavar="FOLD", help="to route the prompts of")
    command.add_argument("--shares", nargs="*", type=float, default=[1.0], help="of the tuned weights in an average")
    command.add_argument("--general", action="store_true", help="CLINC150 and BANKING77 too")
    command.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    command.set_defaults(run=_measure)

    command = commands.add_parser("loco", parents=[given], help="the full hybrid on left-out collections")
    command.add_argument("runs", type=Path, help="folder with the runs a, b, c and d, each without its group")
    command.add_argument("--share", type=float, default=1.0, help="of the tuned weights")
    command.add_argument("--adapters", action="store_true", help="with the router's adapters trained on each")
    command.add_argument("--untouched", action="store_true", help="the untouched model in the same way, too")
    command.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    command.set_defaults(run=_loco)

    command = commands.add_parser("rerank", parents=[given], help="what a second look at the first five would bring")
    command.add_argument("runs", type=Path, help="folder with the runs a, b, c and d, each without its group")
    command.add_argument("--steps", type=int, default=160, help="of the cross-encoder")
    command.add_argument("--joined", type=int, default=4, help="layer from which it reads task and card together")
    command.set_defaults(run=_rerank)

    command = commands.add_parser("export", help="a folder of weights and its int8 graph")
    command.add_argument("model", type=Path, help="folder of a finished run's model")
    command.add_argument("--out", type=Path, required=True)
    command.add_argument("--share", type=float, default=1.0, help="of the tuned weights")
    command.set_defaults(run=_export)

    command = commands.add_parser("restore", help="a folder of weights from an int8 graph, to go on from with --start")
    command.add_argument("graph", type=Path, help="that `export` wrote")
    command.add_argument("--out", type=Path, required=True)
    command.set_defaults(run=_restore)
    return parser


def main() -> None:
    """Run one command."""
    arguments = _parser().parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
