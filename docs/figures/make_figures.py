"""The figures of the documentation, made from synthetic faces and a trained detector.

    python docs/figures/make_figures.py                          # trains first: a few minutes on two cores
    python docs/figures/make_figures.py --workspace workspace    # uses a finished `FullRun` of the synthetic experiment

The figures are written beside this file. The report's screenshot needs Chromium and is skipped without it.
"""

import argparse
import dataclasses
import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon
from PIL import Image, ImageColor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fse import config as configuration
from fse import geometry
from fse.config import Config, Crop
from fse.datasets import images, synthetic
from fse.inference.detector import Detection, Detector, central_view
from fse.inputs import augment, rendering
from fse.model import network
from fse.preprocessing import crop_frame
from fse.preprocessing.resample import resample
from fse.report import drawing

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENT = "synthetic"
FACE_SIZE = 640  # pixels of the faces in the figures; the detector sees the same faces at the experiment's size
VIEW_COLORS = ("#2f7fc8", "#d5720f")  # of the two views of an image
SCREENSHOT_SIZE = (1000, 1130)  # pixels

_STYLE = {"font.size": 11.0, "axes.titlesize": 11.0, "mathtext.fontset": "dejavusans"}


@dataclasses.dataclass(frozen=True)
class Demo:
    """A trained experiment."""

    config: Config
    run: Path  # the folder of the experiment in the workspace
    detector: Detector

    @property
    def crop_share(self) -> float:
        """Width of a crop in widths of the view."""
        return self.config.crop.size / self.config.network.view

    def test_face(self, number: int) -> int:
        """Return the index of a test image in the data set."""
        return self.config.dataset.train + number

    def crop(self, index: int) -> np.ndarray:
        """Return the crop of a face that AlignCrop wrote, uint8 [size, size, 3]."""
        path = self.run / "stages" / "AlignCrop" / "images" / f"{index:06d}.png"
        return images.decode(path, self.config.crop.max_pixels)

    def large_crop(self, index: int) -> np.ndarray:
        """Return the same crop in high resolution, uint8 [FACE_SIZE, FACE_SIZE, 3].

        The experiment crops whole images, so the crop is the face rendered at another size.
        """
        return synthetic.render_face(self.config.dataset.seed, index, FACE_SIZE)[0]

    def large_view(self, index: int) -> np.ndarray:
        """Return the part of the large crop that the network sees."""
        return central_view(self.large_crop(index), round(FACE_SIZE / self.crop_share))

    def detect(self, index: int) -> Detection:
        """Detect the landmarks of a face without a warp."""
        return self.detector(central_view(self.crop(index), self.config.network.view)[None])

    def detect_warped(self, index: int, samples: augment.ViewSamples) -> Detection:
        """Detect the landmarks in warped views of a face."""
        views = rendering.render(self.crop(index)[None], samples, self.config.network.view)
        return self.detector(to_uint8(views))

    def large_warped_views(self, index: int, samples: augment.ViewSamples) -> np.ndarray:
        """Return warped views of a face in high resolution."""
        crop = self.large_crop(index)
        return to_uint8(rendering.render(crop[None], samples, round(FACE_SIZE / self.crop_share)))

    def sample_pair(self, seed: int) -> augment.ViewSamples:
        """Sample the warps and colors of two views of an image, as in training."""
        return augment.sample_views(self.config.augment, np.random.RandomState(seed), 1, 2)


def to_uint8(views: np.ndarray) -> np.ndarray:
    """Convert views from [-1, 1] to 0..255."""
    return np.clip(np.rint(127.5 * (views + 1.0)), 0, 255).astype(np.uint8)


def shrink(image: np.ndarray, size: int) -> np.ndarray:
    """Return an image resized to `size` x `size` pixels."""
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS))


def warped_pair(demo: Demo) -> Image.Image:
    """Draw two views of an image with a grid of each, and corresponding points."""
    index, samples = demo.test_face(11), demo.sample_pair(3)
    views, crop = demo.large_warped_views(index, samples), demo.large_crop(index)
    pixels = synthetic.landmarks(demo.config.dataset.seed, index, FACE_SIZE)
    points = demo.crop_share * geometry.from_pixels(pixels, (FACE_SIZE, FACE_SIZE))  # in half-widths of the view
    figure, axes = _figure(3, (10.0, 3.6))
    _show(axes[1], np.asarray(drawing.draw_landmarks(crop, points / demo.crop_share, 1.0)), demo.crop_share)
    axes[1].set_title("image")
    for view, position in enumerate((0, 2)):
        destinations, color = samples.destinations[0, view], VIEW_COLORS[view]
        seen = geometry.unwarp_points(points, destinations)
        _show(axes[position], np.asarray(drawing.draw_landmarks(views[view], seen, 1.0)), 1.0)
        axes[position].set_title(f"view {view + 1}", color=color)
        _frame(axes[position], color)
        for line in _grid_lines(9):
            axes[position].plot(*line.T, color=color, linewidth=1.1)
            axes[1].plot(*geometry.warp_points(line, destinations).T, color=color, linewidth=1.1)
    return _render(figure)


def heatmap_overlays(demo: Demo) -> Image.Image:
    """Draw all landmarks of two faces, and the heatmaps of some landmarks over the faces."""
    size, shown = 190, (0, 3, 5, 8)
    ticks = network.cell_centers(demo.config.network.name, demo.config.network.view)
    figure, axes = _figure(2 * (1 + len(shown)), (10.0, 4.35), rows=2)
    for row, number in enumerate((4, 21)):
        index = demo.test_face(number)
        view, detection = shrink(demo.large_view(index), size), demo.detect(index)
        points, maps = detection.landmarks[0], detection.heatmaps[0]
        tiles = [drawing.draw_landmarks(view, points, 1.0)]
        for landmark in shown:
            color = drawing.colors(landmark + 1)[landmark]
            tiles.append(drawing.overlay_heatmaps(view, maps[:, :, landmark : landmark + 1], [color], ticks, 1.0))
        for column, tile in enumerate(tiles):
            cell = axes[row * len(tiles) + column]
            _show(cell, np.asarray(tile), 1.0)
            if row == 0:
                cell.set_title(f"heatmap {shown[column - 1]}" if column else "all landmarks")
    return _render(figure)


def alignment_loss(demo: Demo) -> Image.Image:
    """Draw the heatmaps of one landmark in two views, and how the alignment loss compares them on the image."""
    index, samples, landmark = _disagreeing_pair(demo)
    maps = demo.detect_warped(index, samples).heatmaps[:, :, :, landmark]  # [2, rows, columns]
    ticks = network.cell_centers(demo.config.network.name, demo.config.network.view)
    views = demo.large_warped_views(index, samples)
    figure, axes = _figure(3, (10.0, 4.1))
    _show(axes[1], _dim(demo.large_crop(index)), demo.crop_share)
    axes[1].set_title("image")
    means = []
    for view, (position, symbol) in enumerate(((0, "u"), (2, "v"))):
        color = VIEW_COLORS[view]
        overlay = drawing.overlay_heatmaps(
            views[view], maps[view][:, :, None], [ImageColor.getrgb(color)[:3]], ticks, 1.0
        )
        _show(axes[position], np.asarray(overlay), 1.0)
        _frame(axes[position], color)
        axes[position].set_title(f"heatmap of landmark {landmark} in view {view + 1}", color=color)
        cells = geometry.warp_points(geometry.grid(ticks, ticks), samples.destinations[0, view])
        mean, deviation = _moments(maps[view].ravel(), cells)
        means.append(mean)
        weights = np.sqrt(maps[view].ravel() / maps[view].max())
        axes[1].scatter(cells[:, 0], cells[:, 1], s=60.0 * weights, c=color, alpha=0.5, linewidths=0.0)
        axes[1].add_patch(Circle((mean[0], mean[1]), deviation, fill=False, color=color, linewidth=1.6))
        axes[1].plot(*mean, "o", color=color, markeredgecolor="white", markersize=8.0, markeredgewidth=1.4)
        side = 32 if view else -32  # points, outside the circle
        label = rf"$\mathrm{{E}}\,{symbol}$"
        axes[1].annotate(label, (mean[0], mean[1]), (side, 0), textcoords="offset points", color="white", ha="center")
    axes[1].plot(*np.transpose(means), color="white", linewidth=1.6, zorder=0.5)
    center, reach = np.mean(means, axis=0), 0.55
    axes[1].set(xlim=(center[0] - reach, center[0] + reach), ylim=(center[1] + reach, center[1] - reach))
    axes[1].set_title("image, enlarged")
    formula = r"$\mathrm{E}\,|u-v|^2 \;=\; |\mathrm{E}\,u-\mathrm{E}\,v|^2 \;+\; \mathrm{var}\,u \;+\; \mathrm{var}\,v$"
    figure.text(0.5, 0.015, "alignment loss:   " + formula, ha="center", va="bottom", fontsize=13.0)
    return _render(figure, bottom=0.11)


def crop_frames(demo: Demo) -> Image.Image:
    """Draw an image with its crop frame in mode `landmarks`, the crop, and the view."""
    seed, size = demo.config.dataset.seed, (FACE_SIZE, FACE_SIZE)
    settings = Crop(mode="landmarks", eye_distance=0.27)
    shapes = np.stack([synthetic.landmarks(seed, index, FACE_SIZE) for index in range(300)])
    mean = crop_frame.mean_shape(shapes, (0, 1), settings.eye_distance)
    candidates = []
    for index in range(300, 420):
        points = synthetic.landmarks(seed, index, FACE_SIZE)
        frame = crop_frame.crop_frame_of(settings, mean, points, None, np.array(size, np.float64))
        corners = geometry.from_pixels(geometry.apply_affine(frame, _SQUARE), size)
        if np.abs(corners).max() < 0.98:
            candidates.append((_tilt(points), index, frame, corners))
    _, index, frame, corners = max(candidates, key=lambda candidate: candidate[0])
    image, points = synthetic.render_face(seed, index, FACE_SIZE)
    crop = np.asarray(resample(Image.fromarray(image), frame, 400))
    cropped = geometry.apply_affine(geometry.invert_affine(frame), points)
    figure, axes = _figure(3, (10.0, 3.65))
    _show(axes[0], np.asarray(drawing.draw_annotated(image, geometry.from_pixels(points, size), 1.0)), 1.0)
    axes[0].add_patch(Polygon(corners, fill=False, edgecolor="white", linewidth=3.6))
    axes[0].add_patch(Polygon(corners, fill=False, edgecolor=VIEW_COLORS[0], linewidth=2.0))
    axes[0].set_title("image and crop frame")
    axes[0].set(xlim=(-1.0, 1.0), ylim=(1.0, -1.0))
    _show(axes[1], np.asarray(drawing.draw_annotated(crop, cropped, 1.0)), 1.0)
    share = 1.0 / demo.crop_share
    axes[1].add_patch(Polygon(share * _SQUARE, fill=False, edgecolor="white", linewidth=1.8, linestyle="--"))
    axes[1].set_title("crop; dashed: the view")
    _frame(axes[1], VIEW_COLORS[0])
    _show(axes[2], central_view(crop, round(share * len(crop))), 1.0)
    axes[2].set_title("view: what the network sees")
    return _render(figure)


def discovered_landmarks(demo: Demo) -> Image.Image:
    """Draw the discovered landmarks on a row of test faces."""
    tiles = []
    for number in (0, 4, 8, 12, 20, 28, 32):
        index = demo.test_face(number)
        view = shrink(demo.large_view(index), 160)
        tiles.append(drawing.draw_landmarks(view, demo.detect(index).landmarks[0], 1.0))
    return drawing.contact_sheet(tiles, len(tiles))


def report_screenshot(demo: Demo) -> Optional[Image.Image]:
    """Return the top of the report and its discovered landmarks as Chromium shows them; None without Chromium."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        return None
    page = (demo.run / "report.html").read_text(encoding="utf-8")
    page = page.replace("</head>", "<style>#results { display: none }</style></head>", 1)
    with tempfile.TemporaryDirectory() as folder:
        source, path = Path(folder) / "report.html", Path(folder) / "report.png"
        source.write_text(page, encoding="utf-8")
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--disable-background-networking",
        ]
        options += [f"--window-size={SCREENSHOT_SIZE[0]},{SCREENSHOT_SIZE[1]}", f"--screenshot={path}", source.as_uri()]
        subprocess.run([browser, *options], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        screenshot: Image.Image = Image.open(path).convert("RGB")
    return screenshot


FIGURES = {
    "warped-pair": warped_pair,
    "heatmaps": heatmap_overlays,
    "alignment-loss": alignment_loss,
    "crop-frame": crop_frames,
    "discovered-landmarks": discovered_landmarks,
    "report": report_screenshot,
}


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Make all figures, or those that the command line names."""
    parser = argparse.ArgumentParser(description="Make the figures of the documentation.")
    parser.add_argument(
        "figures", nargs="*", metavar="FIGURE", help="one of: {} (default: all)".format(", ".join(FIGURES))
    )
    parser.add_argument("--workspace", type=Path, help="workspace with a finished FullRun of the synthetic experiment")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="folder of the figures")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        workspace = options.workspace or train(Path(temporary))
        run = workspace.absolute() / EXPERIMENT
        with Detector(run / "model") as detector:
            demo = Demo(configuration.load(EXPERIMENT), run, detector)
            for name in options.figures or FIGURES:
                figure = FIGURES[name](demo)
                if figure is None:
                    print(f"{name}: skipped, Chromium is not installed")
                else:
                    save(figure, options.output / f"{name}.png")


def train(folder: Path) -> Path:
    """Run the synthetic experiment, and return its workspace."""
    command = [
        sys.executable,
        "-c",
        "from luigi.cmdline import luigi_run; luigi_run()",
        "--module",
        "pipeline",
        "FullRun",
    ]
    subprocess.run(
        [*command, "--config", EXPERIMENT], cwd=folder, env=dict(os.environ, PYTHONPATH=str(ROOT)), check=True
    )
    return folder / "workspace"


def save(image: Image.Image, path: Path) -> None:
    """Write a PNG with a palette of at most 256 colors, which is a third of the size of full color.

    The colors of the landmarks, of the views and of the background stay exact.
    """
    rgb = np.asarray(image.convert("RGB"))
    exact = [*drawing.colors(10), *map(ImageColor.getrgb, VIEW_COLORS), (255, 255, 255), tuple(rgb[0, 0].tolist())]
    adapted = Image.fromarray(rgb).quantize(256 - len(exact)).getpalette() or []
    palette = np.array([*exact, *np.reshape(adapted, (-1, 3))[: 256 - len(exact)]], np.int64)
    # Pillow's own mapping to a palette rounds colors first.
    colors, indices = np.unique(rgb.reshape(-1, 3).astype(np.int64), axis=0, return_inverse=True)
    nearest = [((palette - color) ** 2).sum(axis=1).argmin() for color in colors]
    mapped = Image.fromarray(np.array(nearest, np.uint8)[indices].reshape(rgb.shape[:2]))
    mapped.putpalette(palette.astype(np.uint8).tobytes())
    mapped.save(path, "png", optimize=True)
    print(f"{path}: {mapped.width} x {mapped.height} pixels, {path.stat().st_size / 1e3:.0f} kB")


_SQUARE = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])


def _figure(panels: int, size: Tuple[float, float], rows: int = 1) -> Tuple[Figure, List[Axes]]:
    """Return a figure with panels that show images."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, dpi=100)
        FigureCanvasAgg(figure)
        axes = list(figure.subplots(rows, panels // rows, squeeze=False).ravel())
    for panel in axes:
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set_visible(False)
    return figure, axes


def _render(figure: Figure, bottom: float = 0.01) -> Image.Image:
    with matplotlib.rc_context(_STYLE):
        figure.subplots_adjust(left=0.005, right=0.995, top=0.92, bottom=bottom, wspace=0.03, hspace=0.03)
        stream = io.BytesIO()
        figure.savefig(stream, format="png")
    return Image.open(stream)


def _show(panel: Axes, image: np.ndarray, half_width: float) -> None:
    """Show an image that extends from -half_width to half_width in both directions, y down."""
    panel.imshow(image, extent=(-half_width, half_width, half_width, -half_width), interpolation="lanczos")
    panel.set(xlim=(-half_width, half_width), ylim=(half_width, -half_width))


def _frame(panel: Axes, color: str) -> None:
    panel.spines[:].set(visible=True, color=color, linewidth=2.5)


def _dim(image: np.ndarray) -> np.ndarray:
    """Return an image in dark gray, so that colors on it are visible."""
    gray = np.asarray(Image.fromarray(image).convert("L"), np.float64) * 0.45 + 12.0
    return np.repeat(np.rint(gray).astype(np.uint8)[:, :, None], 3, axis=2)


def _grid_lines(count: int) -> List[np.ndarray]:
    """Return `count` vertical and `count` horizontal lines over the view, each [points, 2]."""
    ticks, fine = np.linspace(-1.0, 1.0, count), np.linspace(-1.0, 1.0, 100)
    lines = []
    for tick in ticks:
        line = np.stack([np.full_like(fine, tick), fine], axis=-1)
        lines += [line, line[:, ::-1]]
    return lines


def _moments(weights: np.ndarray, points: np.ndarray) -> Tuple[np.ndarray, float]:
    """Return the mean [2] of points [n, 2] with weights [n] that sum to 1, and the square root of their variance."""
    mean = weights @ points
    return mean, float(np.sqrt(weights @ ((points - mean) ** 2).sum(axis=1)))


def _disagreeing_pair(demo: Demo) -> Tuple[int, augment.ViewSamples, int]:
    """Return a face, two views and a landmark that the views place about six cells apart, with a spread of three."""
    ticks = network.cell_centers(demo.config.network.name, demo.config.network.view)
    grid, candidates = geometry.grid(ticks, ticks), []
    for number in range(40):
        index, samples = demo.test_face(number), demo.sample_pair(number)
        maps = demo.detect_warped(index, samples).heatmaps  # [2, rows, columns, K]
        for landmark in range(maps.shape[3]):
            weights = [heatmap.ravel() for heatmap in maps[:, :, :, landmark]]
            if max(np.abs(weight @ grid).max() for weight in weights) > 0.6:
                continue  # close to the border of a view
            cells = [geometry.warp_points(grid, destinations) for destinations in samples.destinations[0]]
            means, deviations = zip(*(_moments(weight, points) for weight, points in zip(weights, cells)))
            distance = float(np.linalg.norm(means[0] - means[1]))
            wanted = np.array([6.0, 3.0, 3.0]) / geometry.CELLS_PER_HALF_WIDTH
            mismatch = float(np.abs(np.array([distance, *deviations]) - wanted).sum())
            candidates.append((mismatch, number, landmark))
    _, number, landmark = min(candidates)
    return demo.test_face(number), demo.sample_pair(number), landmark


def _tilt(points: np.ndarray) -> float:
    """Return the angle of the line through the eyes."""
    x, y = points[1] - points[0]
    return abs(float(np.arctan2(y, x)))


if __name__ == "__main__":
    main()
