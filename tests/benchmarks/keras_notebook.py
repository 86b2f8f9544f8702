"""The original notebook, running in Keras: the reference that the pipeline is compared with.

    pip install tf_keras==2.21.0    # Keras 2 as the notebook has it; brings TensorFlow 2.21 and numpy
    python tests/benchmarks/keras_notebook.py --arrays FILE.npz --train-examples 5000 --test-examples 1000 \
        --epochs 3 --seed 0 --json OUT

FILE.npz holds x_train (N, 32, 32, 3) uint8, y_train (N,), x_test and y_test; whoever writes it decides which
images come in which order. OUT gets each stage's accuracy, loss, history and seconds,
where seconds count compiling, training, reloading and evaluating, not imports and building.

The notebook's cells stand here in its order and under its names. What differs changes none of its results:

- Checkpoints hold weights only and lie in a temporary folder, where the best epoch replaces the one before;
  the notebook keeps them all and `getNewestModel` loads the newest, which is the best as well.
- `K.switch` is `tf.where`; the reason is at its place.
- All data is prepared before the first training.
"""

# mypy: ignore-errors
# because Keras and TensorFlow are no dependency of the project: mypy runs where they are not installed.

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tf_keras.callbacks import EarlyStopping, ModelCheckpoint
from tf_keras.layers import Conv2D, Dense, Dropout, Flatten, Input, Lambda, MaxPooling2D, Reshape
from tf_keras.models import Model
from tf_keras.optimizers import Adam

ARTIFICIAL = (0, 1, 8, 9)  # airplane, automobile, ship, truck
NATURAL = (2, 3, 4, 5, 6, 7)  # bird, cat, deer, dog, frog, horse
orig_classes = 10
gate0_classes = 2

#: parameters of a network, by (large, classes)
PARAMETERS = {
    (False, orig_classes): 2_168_362,
    (True, orig_classes): 1_488_810,
    (False, gate0_classes): 2_164_258,
    (True, gate0_classes): 1_484_706,
}
SUBGATE_PARAMETERS = 1_583_636


def simpleVGG(cifarInput, num_classes, name="vgg"):
    """The small network."""
    name = [name + str(i) for i in range(12)]

    # convolution and max pooling layers
    vgg = Conv2D(32, (3, 3), padding="same", activation="relu", name=name[0])(cifarInput)
    vgg = Conv2D(32, (3, 3), padding="same", activation="relu", name=name[1])(vgg)
    vgg = MaxPooling2D(pool_size=(2, 2), name=name[2])(vgg)
    vgg = Dropout(0.25, name=name[3])(vgg)
    vgg = Conv2D(64, (3, 3), padding="same", activation="relu", name=name[4])(vgg)
    vgg = Conv2D(64, (3, 3), padding="same", activation="relu", name=name[5])(vgg)
    vgg = MaxPooling2D(pool_size=(2, 2), name=name[6])(vgg)
    vgg = Dropout(0.25, name=name[7])(vgg)

    # classification layers
    vgg = Flatten(name=name[8])(vgg)
    vgg = Dense(512, activation="relu", name=name[9])(vgg)
    vgg = Dropout(0.5, name=name[10])(vgg)
    return Dense(num_classes, activation="softmax", name=name[11])(vgg)


def fatVGG(cifarInput, num_classes, name="vgg"):
    """The large network: deeper, yet with fewer parameters."""
    name = [name + str(i) for i in range(17)]

    # convolution and max pooling layers
    vgg = Conv2D(32, (3, 3), padding="same", activation="relu", name=name[0])(cifarInput)
    vgg = Conv2D(32, (3, 3), padding="same", activation="relu", name=name[1])(vgg)
    vgg = MaxPooling2D(pool_size=(2, 2), name=name[2])(vgg)
    vgg = Dropout(0.25, name=name[3])(vgg)
    vgg = Conv2D(64, (3, 3), padding="same", activation="relu", name=name[4])(vgg)
    vgg = Conv2D(64, (3, 3), padding="same", activation="relu", name=name[5])(vgg)
    vgg = MaxPooling2D(pool_size=(2, 2), name=name[6])(vgg)
    vgg = Dropout(0.25, name=name[7])(vgg)
    vgg = Conv2D(128, (3, 3), padding="same", activation="relu", name=name[8])(vgg)
    vgg = Conv2D(128, (3, 3), padding="same", activation="relu", name=name[9])(vgg)
    vgg = Conv2D(128, (3, 3), padding="same", activation="relu", name=name[10])(vgg)
    vgg = MaxPooling2D(pool_size=(2, 2), name=name[11])(vgg)
    vgg = Dropout(0.25, name=name[12])(vgg)

    # classification layers
    vgg = Flatten(name=name[13])(vgg)
    vgg = Dense(512, activation="relu", name=name[14])(vgg)
    vgg = Dropout(0.5, name=name[15])(vgg)
    return Dense(num_classes, activation="softmax", name=name[16])(vgg)


def subGate(cifarInput, orig_classes, numExperts, name="subGate"):
    """Per class, the weights of the baseline and of the expert; all twenty of an image sum to one."""
    name = [name + str(i) for i in range(5)]
    subgate = Flatten(name=name[0])(cifarInput)
    subgate = Dense(512, activation="relu", name=name[1])(subgate)
    subgate = Dropout(0.5, name=name[2])(subgate)
    subgate = Dense(orig_classes * numExperts, activation="softmax", name=name[3])(subgate)
    return Reshape((orig_classes, numExperts), name=name[4])(subgate)


def subGateLambda(base, expert, subgate):
    """Baseline and expert, weighed by the subgate: (N, 10), with rows that do not sum to one."""
    return Lambda(lambda gx: (gx[0] * gx[2][:, :, 0]) + (gx[1] * gx[2][:, :, 1]), output_shape=(orig_classes,))(
        [base, expert, subgate]
    )


def switch(gx):
    """The artificial or the natural branch, as the gate decides for each image; a tie is natural."""
    # K.switch would hand tf.where the mask as (N,), and TensorFlow 2 lays that along the classes: an error
    # for a batch of 50, a wrong answer for a batch of 10. As (N, 1) it chooses rows, as in TensorFlow 1.
    artificial = (gx[1][:, 0] > gx[1][:, 1])[:, None]
    return tf.where(artificial, subGateLambda(gx[0], gx[2], gx[4]), subGateLambda(gx[0], gx[3], gx[5]))


def train(model, images, batch_size, epochs, reload_best):
    """Compile, fit and evaluate a stage as the notebook does, and say what came of it.

    Args:
        model: a Keras model that is not compiled yet.
        images: x and y to fit, x and y to validate and evaluate; every y one-hot.
        batch_size: images per step; the last step of an epoch may have fewer.
        epochs: at most.
        reload_best: evaluate the epoch with the lowest validation loss rather than the last.
    """
    x_train, y_train, x_test, y_test = images
    started = time.perf_counter()
    model.compile(loss="categorical_crossentropy", optimizer=Adam(), metrics=["accuracy"])
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = str(Path(folder) / "best.weights.h5")
        history = model.fit(
            x_train,
            y_train,
            batch_size=batch_size,
            epochs=epochs,
            validation_data=(x_test, y_test),
            callbacks=[
                EarlyStopping(monitor="val_loss", patience=2, verbose=1, mode="auto"),
                ModelCheckpoint(checkpoint, monitor="val_loss", save_best_only=True, save_weights_only=True),
            ],
            verbose=2,
        ).history
        if reload_best:
            model.load_weights(checkpoint)
    loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
    return {
        "accuracy": float(accuracy),
        "loss": float(loss),
        "history": {name: [float(value) for value in values] for name, values in history.items()},
        "best_epoch": 1 + int(np.argmin(history["val_loss"])),
        "seconds": time.perf_counter() - started,
        "parameters": int(model.count_params()),
    }


def notebook(
    x_train,
    y_train,
    x_test,
    y_test,
    *,
    epochs=1,
    batch_size=50,
    use_large_experts=False,
    use_large_gating_mlp=False,
    use_large_baseline_classifier=False,
):
    """Run the notebook and return what each stage came to.

    Images are (N, 32, 32, 3) uint8, their labels (N,) 0 to 9; the choices are the notebook's.
    """
    # Prepare datasets
    x_train = x_train.astype("float32")
    x_test = x_test.astype("float32")
    x_train /= 255
    x_test /= 255
    y_train0 = keras.utils.to_categorical(y_train, orig_classes)
    y_test0 = keras.utils.to_categorical(y_test, orig_classes)
    y_trainG0 = keras.utils.to_categorical([0 if i in ARTIFICIAL else 1 for i in y_train], gate0_classes)
    y_testG0 = keras.utils.to_categorical([0 if i in ARTIFICIAL else 1 for i in y_test], gate0_classes)
    artTrain, artTest = np.isin(y_train, ARTIFICIAL), np.isin(y_test, ARTIFICIAL)
    natureTrain, natureTest = np.isin(y_train, NATURAL), np.isin(y_test, NATURAL)
    every_class = (x_train, y_train0, x_test, y_test0)
    by_superclass = (x_train, y_trainG0, x_test, y_testG0)
    artificial = (x_train[artTrain], y_train0[artTrain], x_test[artTest], y_test0[artTest])
    natural = (x_train[natureTrain], y_train0[natureTrain], x_test[natureTest], y_test0[natureTest])

    # Define architectures
    cifarInput = Input(shape=(x_train.shape[1:]), name="input")
    gate0VGG = (fatVGG if use_large_gating_mlp else simpleVGG)(cifarInput, gate0_classes, "gate0")
    gate0Model = Model(cifarInput, gate0VGG)
    baseVGG = (fatVGG if use_large_baseline_classifier else simpleVGG)(cifarInput, orig_classes, "base")
    baseModel = Model(cifarInput, baseVGG)
    artificialVGG = (fatVGG if use_large_experts else simpleVGG)(cifarInput, orig_classes, "artificial")
    artificialModel = Model(cifarInput, artificialVGG)
    naturalVGG = (fatVGG if use_large_experts else simpleVGG)(cifarInput, orig_classes, "natural")
    naturalModel = Model(cifarInput, naturalVGG)

    # Train networks
    stages = {
        "baseline": train(baseModel, every_class, batch_size, epochs, reload_best=True),
        "gate": train(gate0Model, by_superclass, batch_size, epochs, reload_best=True),
        "artificial": train(artificialModel, artificial, batch_size, epochs, reload_best=True),
        "natural": train(naturalModel, natural, batch_size, epochs, reload_best=True),
    }

    # Freeze the weights. Dropout has none, so in the frozen networks it stays on while the subgates train.
    # Keras says so in Dropout's docstring ("`trainable` does not affect the layer's behavior"), and in
    # tf_keras 2.21 as in Keras 3.15 a frozen Dropout(0.5) was seen to zero half of its input in `fit` and
    # nothing in `evaluate`.
    for vgg in (baseModel, gate0Model, artificialModel, naturalModel):
        for layer in vgg.layers:
            layer.trainable = False

    # Connecting the overall networks to form the mixture of experts model
    artGate = subGate(cifarInput, orig_classes, 2, "artExpertGate")
    natureGate = subGate(cifarInput, orig_classes, 2, "natureExpertGate")
    output = Lambda(switch, output_shape=(orig_classes,))(
        [baseVGG, gate0VGG, artificialVGG, naturalVGG, artGate, natureGate]
    )
    model = Model(cifarInput, output)
    assert sum(keras.backend.count_params(weight) for weight in model.trainable_weights) == (2 * SUBGATE_PARAMETERS)

    # The output is no softmax, so Keras's categorical_crossentropy divides each row by its sum first. And the
    # notebook does not reload here: what it reports of the mixture is the last epoch.
    stages["mixture"] = train(model, every_class, batch_size, epochs, reload_best=False)

    expected = {
        "baseline": PARAMETERS[use_large_baseline_classifier, orig_classes],
        "gate": PARAMETERS[use_large_gating_mlp, gate0_classes],
        "artificial": PARAMETERS[use_large_experts, orig_classes],
        "natural": PARAMETERS[use_large_experts, orig_classes],
    }
    expected["mixture"] = sum(expected.values()) + 2 * SUBGATE_PARAMETERS  # 11,836,616 where all are small
    assert {name: stage["parameters"] for name, stage in stages.items()} == expected
    return stages


def main():
    """Read the images, run the notebook and write what it found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arrays", type=Path, required=True, help="x_train, y_train, x_test, y_test as .npz")
    parser.add_argument("--train-examples", type=int, default=5000, help="take the first (default: 5000)")
    parser.add_argument("--test-examples", type=int, default=1000, help="take the first (default: 1000)")
    parser.add_argument("--epochs", type=int, default=1, help="of each stage, at most (default: 1)")
    parser.add_argument("--batch-size", type=int, default=50, help="default: 50")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--use-large-experts", action="store_true")
    parser.add_argument("--use-large-gating-mlp", action="store_true", help="sizes the gate's CNN")
    parser.add_argument("--use-large-baseline-classifier", action="store_true")
    parser.add_argument("--json", type=Path, required=True, help="OUT: the file to write")
    settings = vars(parser.parse_args())
    arrays, out = settings.pop("arrays"), settings.pop("json")

    images = []
    with np.load(arrays) as file:
        for part in ("train", "test"):
            count = settings[f"{part}_examples"]
            x, y = file[f"x_{part}"], file[f"y_{part}"]
            if not 1 <= count <= len(x):
                raise SystemExit(f"{part}_examples is {count}; expected 1 to {len(x)} with {arrays}")
            images += [x[:count], y[:count]]

    keras.utils.set_random_seed(settings["seed"])
    choices = ("epochs", "batch_size", *(name for name in settings if name.startswith("use_large")))
    stages = notebook(*images, **{name: settings[name] for name in choices})
    found = {
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "machine": {
            "cpus": os.cpu_count(),
            "gpus": [device.name for device in tf.config.list_physical_devices("GPU")],
        },
        "settings": settings,
        "seconds": sum(stage["seconds"] for stage in stages.values()),
        "stages": stages,
    }
    partial = out.with_name(f"{out.name}.partial")
    partial.write_text(json.dumps(found, indent=1) + "\n")
    partial.replace(out)
    for name, stage in stages.items():
        accuracy, loss, seconds = (stage[key] for key in ("accuracy", "loss", "seconds"))
        print(f"{name:10} accuracy {accuracy:.4f}  loss {loss:.4f}  {seconds:.1f} s")


if __name__ == "__main__":
    main()
