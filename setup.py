"""Packaging of tfpipe. See BUILD.md."""

import pathlib
import re

from setuptools import find_packages, setup

here = pathlib.Path(__file__).parent
(version,) = re.findall(r'^__version__ = "(.+)"$', (here / "tfpipe" / "version.py").read_text("utf-8"), re.MULTILINE)

setup(
    name="tfpipe",
    version=version,
    description="Softmax regression on image matrices, with TensorFlow: fast, exact, whole grids at once",
    long_description=(here / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["tfpipe", "tfpipe.*"]),
    package_data={"tfpipe": ["py.typed"]},
    entry_points={"console_scripts": ["tfpipe = tfpipe.cli.main:main"]},
    install_requires=[
        "absl-py>=2.1,<3",
        # tensorflow-datasets needs it, and does not say so.
        "importlib-resources>=6,<8",
        "joblib>=1.4,<2",
        "keras>=3.14,<4",
        "matplotlib>=3.9,<4",
        "numpy>=2.0,<3",
        "pillow>=11,<14",
        "scikit-learn>=1.6,<2",
        "scipy>=1.13,<2",
        "threadpoolctl>=3.1,<4",
        # Its plugins make the events that it reads. TensorFlow 2.21 no longer installs it.
        "tensorboard>=2.21,<2.22",
        "tensorflow>=2.21,<2.22",
        "tensorflow-datasets>=4.9.10,<4.10",
        "tqdm>=4.66,<5",
    ],
    extras_require={
        # Pictures of phones: `.heic`.
        "heif": ["pillow-heif>=1.0,<2"],
        "onnx": ["onnx>=1.17,<2"],
        "tables": ["pyarrow>=18"],
        # TensorFlow and Keras bring it too.
        "hdf5": ["h5py>=3.11,<4"],
        "safetensors": ["safetensors>=0.4.5,<1"],
        # Object stores. s3fs and gcsfs bring aiohttp, for http(s); hdfs needs pyarrow, and Hadoop's libhdfs.
        "stores": ["fsspec>=2025.3", "gcsfs>=2025.3", "s3fs>=2025.3"],
        "gpu": ["tensorflow[and-cuda]>=2.21,<2.22"],
        "test": [
            "h5py>=3.11,<4",
            # A server of S3 on loopback, with what it runs by.
            "flask>=3.0,<4",
            "flask-cors>=5,<7",
            "fsspec>=2025.3",
            "hypothesis>=6.100,<7",
            "ml_dtypes>=0.5,<1",
            "moto[s3]>=5.1,<6",
            "mypy>=2.0,<3",
            "onnx>=1.17,<2",
            "onnxruntime>=1.20,<2",
            "pandas>=2.2,<4",
            "pillow-heif>=1.0,<2",
            "pyarrow>=18",
            "pytest>=9.0,<10",
            "pytest-xdist>=3.6,<4",
            "pyyaml>=6.0,<7",
            "ruff==0.17.*",
            "s3fs>=2025.3",
            "safetensors>=0.4.5,<1",
        ],
        "browser": ["selenium>=4.20,<5"],
        "bench": [
            "cyanure>=1.2,<2",
            "jax>=0.6,<1",
            "pytensor>=3.0,<4",
            "scikit-learn-intelex>=2026.0,<2027",
            "torch>=2.6,<3",
        ],
    },
    classifiers=[
        "Environment :: Console",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
