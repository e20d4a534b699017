"""From the options of `anomap evaluate` to the text of its three files."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import anomap
from anomap.bundle import load_bundle
from anomap.evaluation.data import load_evaluation
from anomap.evaluation.machine import describe_machine
from anomap.evaluation.page import evaluation_page
from anomap.evaluation.run import EvaluationConfig, evaluate
from anomap.evaluation.store import Store
from anomap.evaluation.table import FORMAT, evaluation_json, evaluation_markdown
from anomap.projection.schedule import preset
from anomap.study import resolve_device

if TYPE_CHECKING:
    from anomap.evaluation.commands import Evaluate


def evaluation_files(options: Evaluate, folder: Path, listener: Callable[[str, int, int], None]) -> dict[str, str]:
    """Measure; name of a file -> its text. No path, no name of an image and no patient stands in them.

    Args:
        options: The command.
        folder: Of the bundle.
        listener: Told (name of the set, images done, images in all).

    Raises:
        AnomapError: As the stages do.
    """
    start = time.perf_counter()
    device = resolve_device(options.device)
    projection = preset(options.preset, steps=options.steps)
    config = EvaluationConfig(
        projection=projection,
        protocol=options.protocol,
        synthetic=options.synthetic,
        synthetic_images=options.synthetic_images,
        cap=options.cap,
        cap_normal=options.cap_normal,
        seeds=options.seeds,
        mean=options.mean,
    )
    bundle = load_bundle(folder, device)
    store = None
    if options.cache is not None:
        store = Store(
            folder=options.cache, bundle_sha256=bundle.info.sha256, projection=projection, device=bundle.device
        )
    data = load_evaluation(options.data, bundle.spec, options.split)
    result = evaluate(bundle, data, config, store=store, listener=listener)
    name = options.data.resolve().name
    title = f"{bundle.info.name} {bundle.info.version} on {name}, preset {options.preset}"
    machine = describe_machine(device, Path(anomap.__file__).resolve().parents[1])
    content = {
        "format": FORMAT,
        "not_a_diagnosis": True,
        "notice": anomap.NOT_A_DIAGNOSIS,
        "bundle": {key: getattr(bundle.info, key) for key in ("name", "version", "sha256")},
        "data": name,
        "split": options.split,
        "config": json.loads(json.dumps(asdict(config), default=str)),
        "machine": machine,
        "seconds": round(time.perf_counter() - start, 1),
        **evaluation_json(result),
    }
    facts = f"{machine['created']} · {machine['hardware']} · {projection.steps} steps"
    return {
        "evaluation.html": evaluation_page(result, title, facts),
        "evaluation.md": evaluation_markdown(result, title),
        "evaluation.json": json.dumps(content, indent=1, allow_nan=False) + "\n",
    }
