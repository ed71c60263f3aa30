"""A page as a browser lays it out: labels over others or outside their figure, a page wider than the window."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--virtual-time-budget=4000", "--dump-dom",
    "--allow-file-access-from-files",
)  # fmt: skip
# Runs inside the page. Slanted labels have boxes that overlap although the texts do not: only upright ones count.
PROBE = """
<script>
addEventListener("load", () => {
  const found = [], edge = document.documentElement;
  for (const plot of document.querySelectorAll("svg.plot, svg.network")) {
    const frame = plot.getBoundingClientRect();
    if (!frame.width) continue;
    const texts = [...plot.querySelectorAll("text")].map(t => ({
      text: t.textContent, box: t.getBoundingClientRect(), slanted: t.hasAttribute("transform")}));
    texts.forEach(({text, box, slanted}, i) => {
      if (box.left < frame.left - 2 || box.right > frame.right + 2 || box.bottom > frame.bottom + 2)
        found.push(`${plot.id}: ${text} is outside`);
      for (const other of texts.slice(i + 1)) {
        const wide = Math.min(box.right, other.box.right) - Math.max(box.left, other.box.left);
        const high = Math.min(box.bottom, other.box.bottom) - Math.max(box.top, other.box.top);
        if (!(slanted && other.slanted) && wide > 0.5 && high > 2.5)
          found.push(`${plot.id}: ${text} is over ${other.text}`);
      }
    });
  }
  if (edge.scrollWidth > edge.clientWidth + 1) found.push(`page is ${edge.scrollWidth} wide`);
  const plots = document.querySelectorAll("svg.plot").length;
  (parent === window ? document : parent.document).body.insertAdjacentHTML("beforeend", "<pre id=probe></pre>");
  (parent === window ? document : parent.document).getElementById("probe").textContent =
    JSON.stringify({plots, found});
});
</script></head>"""


def find_browser() -> str:
    """Path of a Chromium; skips the test where there is none."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium here; install it with: apt-get install chromium")
    return found


def lay_out(browser: str, folder: Path, page: str, width: int, plots: int) -> list[str]:
    """What is wrong with `page`, which has so many `plots`, in a window of `width` pixels."""
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page).replace("</head>", PROBE)
    (folder / "page.html").write_text(page, encoding="utf-8")
    # a window cannot be narrower than 500 pixels, a frame can
    frame = f'<body style="margin:0"><iframe src="page.html" style="width:{width}px;height:9000px;border:0"></iframe>'
    (folder / "frame.html").write_text(frame, encoding="utf-8")
    command = [browser, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--window-size=1400,2000",
               (folder / "frame.html").as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    match = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.S)
    assert match is not None, done.stderr[-500:]
    probe = json.loads(html.unescape(match[1]))
    assert probe["plots"] == plots
    return [str(item) for item in probe["found"]]
