# ruff: noqa: D100, D101, D102, D103, E402
# The cells of docs/python.md, one after the other: a notebook as a script.
# It needs the demonstration's model and data ('make install-demo').

# %% An experiment
import fs_plugins

run = fs_plugins.run(
    "demo/fedsa.yaml",
    outdir="exp/python",
    federate__total_round_num=2,
    data__subsample=0.2,  # of the data, to be quick
)

# %% Its results
table = run.metrics  # a pandas.DataFrame, if pandas is installed
print(table[["round", "test_acc", "uplink_bytes"]])
print(run.client(2).results["test_acc"], run.worst_client())

# %% Another one beside it
local = fs_plugins.run(
    "demo/fedsa.yaml+local",
    outdir="exp/python",
    federate__total_round_num=2,
    data__subsample=0.2,
)
print(run.compare(local, out="exp/python/report"))

# %% A client's model
import torch
from transformers import AutoTokenizer

model = run.client(2).model().eval()
base = model.peft_config["default"].base_model_name_or_path
tokenizer = AutoTokenizer.from_pretrained(base)
with torch.no_grad():
    batch = tokenizer("The match ended in a draw.", return_tensors="pt")
    print(model(**batch).logits.softmax(-1))

# %% Data of your own
import datasets

tickets = datasets.Dataset.from_list(
    [
        {"text": text, "label": queue}
        for queue, texts in {
            "billing": ("I was charged twice", "where is my invoice"),
            "technical": ("the app crashes", "I cannot log in"),
        }.items()
        for text in texts
    ]
    * 12
)
run = fs_plugins.run(
    "demo/fedsa.yaml",
    data=tickets,
    outdir="exp/python",
    expname="tickets",
    federate__client_num=2,
    federate__total_round_num=2,
)

# %% Predictions
predictor = fs_plugins.Predictor(run, run.client(1))
print(predictor.predict(["I was charged twice", "it crashes"]))

# %% A model of your own
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification


def base_model():
    return AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=2
    )


adapter = LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query"])
run = fs_plugins.run(
    "demo/fedsa.yaml",
    model=get_peft_model(base_model(), adapter),
    data=tickets,
    outdir="exp/python",
    expname="own_model",
    federate__client_num=2,
    federate__total_round_num=2,
)
model = run.client(1).model(base=base_model())


# %% Listening
class Worst(fs_plugins.Listener):
    def recorded(self, line):
        accuracy = {c: r["test_acc"] for c, r in line["clients"].items()}
        print(line["round"], min(accuracy.items(), key=lambda c: c[1]))


fs_plugins.run(
    "demo/fedsa.yaml",
    data=tickets,
    listeners=[Worst()],
    outdir="exp/python",
    expname="listening",
    federate__client_num=2,
    federate__total_round_num=2,
)

# %% Mistakes
try:
    fs_plugins.run("demo/fedsa.yaml", federate__method="fedsaa")
except fs_plugins.UserError as error:
    print(error)
