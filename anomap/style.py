"""The colours of all pages that anomap makes, light and dark, as the person's system wants them."""

COLOURS = """\
:root {
  color-scheme: light dark;
  --page: #f5f6f8; --paper: #fff; --ink: #1b1f24; --dim: #5c6570; --line: #dde1e6; --mark: #0b5cad;
  --good: #1a7244; --wait: #8a5a00; --bad: #b3261e; --good-on: #e2f3e9; --wait-on: #fdf0d5; --bad-on: #fbe4e2;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171a; --paper: #1d2125; --ink: #e6e9ec; --dim: #9aa4ae; --line: #333a41; --mark: #7db8f5;
    --good: #6fd39b; --wait: #f0c069; --bad: #ff8f86; --good-on: #173526; --wait-on: #3a2c10; --bad-on: #43201d;
  }
}
* { box-sizing: border-box; }
"""
