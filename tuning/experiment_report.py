"""What the runs of tuning/experiment show: tables and plots with 95 % confidence intervals.

Figures of one cell are summed up by their geometric mean, with Student's interval of their
logarithms: latencies are skewed to the right, and such an interval never reaches below zero. A
ratio is that of two runs of the same repeat, so that what changed on the machine between repeats
cancels out. Pages and plots are self-contained: no scripts, fonts or files from elsewhere.
"""

import html
import math
import os
import re

# Student's t for 95 %, two-sided, by degrees of freedom from 1.
T95 = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
       2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
       2.052, 2.048, 2.045, 2.042]
INTERVAL_RUNS_MIN = 3
METRICS = [("requests_per_second", "requests/s"), ("p50_us", "p50, µs"), ("p99_us", "p99, µs"),
           ("p99.9_us", "p99.9, µs")]
# Okabe and Ito's colours, which people who do not see red or green can tell apart.
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d31"]
WIDTH, PANEL_W, PANEL_H = 800, 390, 235
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 30, 44


def latest(rows):
    """One row for each repeat of each cell: the later one, where a failed run was repeated."""
    last = {(row["repeat"], row["cell"]): row for row in rows}
    return list(last.values())


def interval(values):
    """(geometric mean, low, high); low and high are None for fewer than three values, of which an
    interval would say no more than that they are too few."""
    # Below a microsecond, or nothing a second, there are no logarithms, and nothing to see.
    logs = [math.log(max(value, 0.5)) for value in values]
    count, mean = len(logs), sum(logs) / len(logs)
    if count < INTERVAL_RUNS_MIN:
        return math.exp(mean), None, None
    deviation = math.sqrt(sum((it - mean) ** 2 for it in logs) / (count - 1))
    # Beyond the table: the first terms of t's expansion around the normal distribution.
    free = count - 1
    student = T95[free - 1] if free <= len(T95) else 1.95996 + 2.3722 / free + 2.8225 / free**2
    half = student * deviation / math.sqrt(count)
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


class Cell:
    """The rows of one cell that are good, and what tells it from others of its load."""

    def __init__(self, number, row):
        self.number, self.row, self.rows = number, row, []

    def values(self, metric):
        return [float(row[metric]) for row in self.rows]

    def label(self, columns):
        return ", ".join(f"{short(column)} = {self.row[column] or 'default'}" for column in columns)

    def ratio(self, base, metric):
        """To the base, over the repeats that both have."""
        theirs = {row["repeat"]: float(row[metric]) for row in base.rows}
        pairs = [max(float(row[metric]), 0.5) / max(theirs[row["repeat"]], 0.5)
                 for row in self.rows if row["repeat"] in theirs]
        return interval_of_ratios(pairs) if pairs and self is not base else None


def interval_of_ratios(pairs):
    # Scaled, so that the floor of `interval` stays far away.
    return tuple(None if it is None else it / 1e6 for it in interval([it * 1e6 for it in pairs]))


def short(column):
    return column.split(".", 1)[1]


class Load:
    """All cells of one declared load."""

    def __init__(self, name, rows, over):
        self.name, self.cells = name, []
        for row in sorted(rows, key=lambda row: (int(row["cell"]), int(row["repeat"]))):
            if not self.cells or self.cells[-1].number != row["cell"]:
                self.cells.append(Cell(row["cell"], row))
            if row["outcome"] == "ok":
                self.cells[-1].rows.append(row)
        self.runs, self.failed = len(rows), sum(row["outcome"] != "ok" for row in rows)
        options = [it for it in rows[0] if it.startswith(("server.", "load."))]
        # Cells are numbered as declared, and so their values come as declared.
        self.varied = {it: list(dict.fromkeys(cell.row[it] for cell in self.cells)) for it in options}
        self.varied = {it: values for it, values in self.varied.items() if len(values) > 1}
        most = max(self.varied, key=lambda it: len(self.varied[it]), default=None)
        self.over = over if over in self.varied else most
        self.others = [it for it in self.varied if it != self.over]

    def base(self, cell):
        """The first cell with the same load: what the server's options are compared with."""
        options = [it for it in self.varied if it.startswith("load.")]
        return next(it for it in self.cells if all(it.row[key] == cell.row[key] for key in options))

    def series(self):
        """{what the cells of a line have in common: [(position along the plot, cell)]}"""
        lines = {}
        for cell in self.cells:
            at = self.varied[self.over].index(cell.row[self.over]) if self.over else 0
            lines.setdefault(cell.label(self.others), []).append((at, cell))
        return lines


def loads(rows, over=None):
    rows = latest(rows)
    return [Load(name, [row for row in rows if row["load"] == name], over)
            for name in dict.fromkeys(row["load"] for row in sorted(rows, key=lambda it: int(it["cell"])))]


def figure(value):
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def with_interval(triple):
    middle, low, high = triple
    return figure(middle) if low is None else f"{figure(middle)} ({figure(low)}-{figure(high)})"


def table(load):
    """The head and the lines of the table of one load."""
    columns = list(load.varied)
    head = [short(it) for it in columns] + ["runs"] + [label for _, label in METRICS] + ["ratio to the first"]
    lines = []
    for cell in load.cells:
        line = [cell.row[it] or "default" for it in columns] + [str(len(cell.rows))]
        for metric, _ in METRICS:
            line.append(with_interval(interval(cell.values(metric))) if cell.rows else "")
        ratio = cell.ratio(load.base(cell), "requests_per_second")
        # Three digits: the differences of interest are of a few percent.
        shown = "" if ratio is None else f"{ratio[0]:.3f}"
        lines.append(line + [shown + (f" ({ratio[1]:.3f}-{ratio[2]:.3f})" if ratio and ratio[1] else "")])
    return head, lines


def facts(rows):
    """Lines about the machine and the programs; what changed between runs is told as such."""
    def of(column):
        return " or ".join(dict.fromkeys(row[column] for row in rows if row[column])) or "unknown"

    averages = [float(row["load_average"]) for row in rows]
    placed = [f"{what} on CPUs {of(column)}" for what, column in
              (("server", "server_cpus"), ("load", "load_cpus")) if of(column) != "unknown"]
    return [
        f"{of('cpu_model')}, {of('cpus')} CPUs, {of('memory_gib')} GiB, {of('kernel')}; "
        f"data on {of('data_filesystem')}",
        f"ringkeeper {of('server_version')} (SHA-256 {of('server_sha256')}…), ringkeeper-loadgen "
        f"{of('loadgen_version')}" + "".join(f", {it}" for it in placed),
        f"load average of the machine before a run: {min(averages):.1f} to {max(averages):.1f}; "
        f"seed {of('seed')}",
    ]


NOTE = ("Geometric means over the runs, 95 % confidence intervals in brackets; ratios are of requests/s, "
        "run by run within a repeat.")


def text(rows):
    """The tables, in Markdown."""
    parts = ["\n".join(facts(rows)), NOTE]
    for load in loads(rows):
        head, lines = table(load)
        marks = ["---:" if it >= len(load.varied) else "---" for it in range(len(head))]
        failed = f" ({load.failed} of {load.runs} runs failed)" if load.failed else ""
        parts.append("\n".join([f"{load.name}{failed}", ""] + ["| " + " | ".join(it) + " |"
                                                               for it in [head, marks] + lines]))
    return "\n\n".join(parts)


class Scale:
    """Where a value lies on an axis: from zero, or by its logarithm where values lie far apart."""

    def __init__(self, values):
        low, high = min(values), max(values)
        self.by_log = low > 0 and high / low > 30
        if self.by_log:
            steps = [digit * 10.0**power for power in range(-3, 12) for digit in (1, 2, 5)]
            first = max(at for at, step in enumerate(steps) if step <= low or at == 0)
            last = next((at for at, step in enumerate(steps) if step >= high), len(steps) - 1)
            self.low, self.high = math.log10(steps[first]), math.log10(steps[last])
            self.ticks = [step for at, step in enumerate(steps[first:last + 1], first)
                          if last - first < 8 or at % 3 == 0]
        else:
            # Steps of 1, 2 or 5 that make four to eight ticks.
            rough = (high or 1) * 1.05 / 5
            power = 10 ** math.floor(math.log10(rough))
            step = next(it * power for it in (1, 2, 5, 10) if it * power >= rough)
            self.low, self.high = 0, math.ceil((high or 1) * 1.02 / step) * step
            self.ticks = [step * it for it in range(round(self.high / step) + 1)]

    def share(self, value):
        at = math.log10(value) if self.by_log else value
        return (at - self.low) / (self.high - self.low)


def tick(value):
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"


def panel(load, metric, label, x0, y0):
    """One plot: points with whiskers, a line for each series, the runs as faint dots."""
    lines = load.series()
    places = load.varied[load.over] if load.over else [""]
    good = [cell for cell in load.cells if cell.rows]
    out = [f'<text x="{x0 + LEFT}" y="{y0 + 18}" class="t">{html.escape(label)}</text>']
    if not good:
        return out + [f'<text x="{x0 + LEFT}" y="{y0 + 60}">no run succeeded</text>']
    limits = [it for cell in good for it in interval(cell.values(metric)) if it is not None]
    runs = [max(value, 0.5) for cell in good for value in cell.values(metric)]
    # A wide interval of two or three runs must not make all else flat.
    scale = Scale([it for it in limits if min(runs) / 3 <= it <= max(runs) * 1.5] + runs)
    width, height = PANEL_W - LEFT - RIGHT, PANEL_H - TOP - BOTTOM

    def y(value):
        return y0 + TOP + height * (1 - min(max(scale.share(value), 0), 1))

    def x(at, line):
        slot = width / len(places)
        # Beside each other, so that whiskers can be told apart.
        apart = min(slot * 0.6 / len(lines), 12)
        return x0 + LEFT + slot * (at + 0.5) + apart * (line - (len(lines) - 1) / 2)

    for value in scale.ticks:
        out.append(f'<path d="M{x0 + LEFT} {y(value):.1f}h{width}" class="g"/><text x="{x0 + LEFT - 6}" '
                   f'y="{y(value) + 4:.1f}" class="e">{tick(value)}</text>')
    if load.over:
        # As many as have room: about seven pixels a letter.
        longest = max(len(place or "default") for place in places)
        every = math.ceil(len(places) * (7 * longest + 6) / width)
        for at, place in list(enumerate(places))[::every]:
            centre = x0 + LEFT + width / len(places) * (at + 0.5)
            out.append(f'<text x="{centre:.1f}" y="{y0 + PANEL_H - BOTTOM + 16}" class="m">'
                       f'{html.escape(place or "default")}</text>')
        out.append(f'<text x="{x0 + LEFT + width / 2}" y="{y0 + PANEL_H - BOTTOM + 33}" class="m">'
                   f"{html.escape(short(load.over))}</text>")
    for number, points in enumerate(lines.values()):
        colour = COLOURS[number % len(COLOURS)]
        dash = "" if number < len(COLOURS) else ' stroke-dasharray="4 3"'
        drawn, dots, whiskers = [], [], []
        for at, cell in points:
            if not cell.rows:
                continue
            here, (middle, low, high) = x(at, number), interval(cell.values(metric))
            drawn.append(f"{here:.1f} {y(middle):.1f}")
            dots += [f'<circle cx="{here:.1f}" cy="{y(max(value, 0.5)):.1f}" r="2"/>'
                     for value in cell.values(metric)]
            if low is not None:
                whiskers.append(f"M{here - 4:.1f} {y(low):.1f}h8M{here - 4:.1f} {y(high):.1f}h8"
                                f"M{here:.1f} {y(low):.1f}V{y(high):.1f}")
        if not drawn:
            continue
        out.append(f'<g fill="{colour}" opacity=".3">{"".join(dots)}</g>')
        out.append(f'<g stroke="{colour}" fill="none"><path d="M{"L".join(drawn)}" stroke-width="1.2"{dash}/>'
                   f'<path d="{"".join(whiskers)}" stroke-width="1.6"/></g>')
        out.append(f'<g fill="{colour}">' + "".join(
            f'<circle cx="{it.split()[0]}" cy="{it.split()[1]}" r="3.4"/>' for it in drawn) + "</g>")
    return out


def plot(load, title):
    """The plots of one load as one SVG."""
    named = [it for it in load.series() if it]
    top = 48 + 18 * len(named)
    height = top + 2 * PANEL_H + 6
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
           f'height="{height}" font-family="sans-serif" font-size="12" fill="#222"><style>'
           ".t{font-weight:bold}.m{text-anchor:middle}.e{text-anchor:end}.g{stroke:#ddd;fill:none}"
           f'</style><rect width="{WIDTH}" height="{height}" fill="#fff"/>'
           f'<text x="14" y="22" font-size="15" class="t">{html.escape(f"{title}: {load.name}")}</text>']
    counts = sorted({len(cell.rows) for cell in load.cells})
    runs = " to ".join(str(it) for it in dict.fromkeys((counts[0], counts[-1])))
    failed = f"; {load.failed} of {load.runs} runs failed" if load.failed else ""
    bars = ", bars: 95 % confidence intervals" if counts[-1] >= INTERVAL_RUNS_MIN else ""
    out.append(f'<text x="14" y="40">dots: means of {runs} runs{bars}; faint: single runs{failed}</text>')
    for number, label in enumerate(named):
        out.append(f'<circle cx="22" cy="{54 + 18 * number}" r="4" fill="{COLOURS[number % len(COLOURS)]}"/>'
                   f'<text x="34" y="{58 + 18 * number}">{html.escape(label)}</text>')
    for number, (metric, label) in enumerate(METRICS):
        out += panel(load, metric, label, number % 2 * (PANEL_W + 10), top + number // 2 * PANEL_H)
    return "\n".join(it for it in out if it) + "\n</svg>\n"


def file_name(name):
    return re.sub(r"[^a-z0-9]+", "-", name.lower().replace("×", "x")).strip("-") + ".svg"


def table_row(cells, tag):
    return "<tr>" + "".join(f"<{tag}>{html.escape(it)}</{tag}>" for it in cells) + "</tr>"


def page(rows, title, over):
    out = ['<!doctype html><html lang="en"><head><meta charset="utf-8">',
           f"<title>{html.escape(title)}</title><style>"
           "body{font:15px sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}td,th{padding:.2em .7em;text-align:right;border-bottom:1px solid #ddd}"
           "table{border-collapse:collapse;margin:1em 0}svg{max-width:100%;height:auto}</style></head><body>",
           f"<h1>{html.escape(title)}</h1>"]
    out += [f"<p>{html.escape(line)}</p>" for line in facts(rows) + [NOTE]]
    for load in loads(rows, over):
        head, lines = table(load)
        out.append(f"<h2>{html.escape(load.name)}</h2>{plot(load, title)}<table>{table_row(head, 'th')}"
                   + "".join(table_row(line, "td") for line in lines) + "</table>")
    failed = [row for row in latest(rows) if row["outcome"] != "ok"]
    if failed:
        out.append("<h2>Runs that failed</h2><ul>")
        out += [f"<li>run {row['run']} (cell {row['cell']}, repeat {row['repeat']}, "
                f"{html.escape(row['load'])}): {html.escape(row['why'])}</li>" for row in failed]
        out.append("</ul>")
    return "\n".join(out) + "\n</body></html>\n"


def write(folder, rows, title, over):
    """report.html and, for each load, its plots as a file."""
    files = {"report.html": page(rows, title, over)}
    files |= {file_name(load.name): plot(load, title) for load in loads(rows, over)}
    for name, content in files.items():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(content)
