import re
from pathlib import Path

import numpy as np

from anomap import NOT_A_DIAGNOSIS
from anomap.evaluation.page import evaluation_page
from tests.browser import chromium
from tests.evaluation.test_table import made_evaluation


def test_the_page_holds_all_it_shows_and_says_what_it_is_not() -> None:
    page = evaluation_page(made_evaluation(), "toy <1>", "today")
    assert NOT_A_DIAGNOSIS in page
    assert "toy &lt;1&gt;" in page
    assert "<knee>" not in page
    assert "<script" not in page
    assert set(re.findall(r'(?:src|href)="([^"]{0,22})', page)) == {"data:image/png;base64,"}
    assert "http" not in page


def test_a_browser_shows_curves_tables_and_pictures_and_asks_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(evaluation_page(made_evaluation(), "toy", "today"), encoding="utf-8")
    with chromium() as browser:
        tab = browser.new_page(viewport={"width": 1200, "height": 900})
        asked: list[str] = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(path.as_uri())
        assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
        assert tab.locator(".plot svg polyline").count() == 2
        assert tab.locator(".plot small").inner_text().split() == ["0.75", "0.75"]  # trapezoids by hand
        sizes = tab.eval_on_selector_all("img", "all => all.map(one => [one.naturalWidth, one.naturalHeight])")
        assert sizes == [[3 * 128 + 6, 128]] * 3
        width = tab.evaluate("document.documentElement.scrollWidth")
        assert width <= 1200


def test_panels_are_image_reconstruction_and_map() -> None:
    import base64
    import io
    from dataclasses import replace

    from PIL import Image

    from anomap.preview import NOTHING, REGION

    quality = made_evaluation()
    case = quality.exhibits[1].cases[1]  # nothing was scored; the diagonal was planted
    bright = replace(case, image=np.ones((8, 8), np.float32), reconstruction=-np.ones((8, 8), np.float32))
    shown = replace(quality.exhibits[1], cases=(bright,), name="one")
    page = evaluation_page(replace(quality, exhibits=(shown,)), "toy", "today")
    data = re.findall(r"base64,([^\"]+)", page)[0]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert pixels[64, 8].tolist() == [255, 255, 255]
    assert pixels[64, 131 + 8].tolist() == [0, 0, 0]
    assert pixels[64, 262 + 8].tolist() == list(NOTHING)
    assert (pixels[:, :128] == REGION).all(axis=-1).any()
    assert not (pixels[:, 131:259] == REGION).all(axis=-1).any()
