"""Other people's whole training loops among the contestants: transformers' Trainer and `litgpt pretrain`.

Their loops own the run and cannot be asked for one step. Each runs in a thread of its own that stands still once a
step, always at the same place (`Turns`): from there to there is one whole step, with all that the loop does around it.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from contestants import Batches, Contestant, cleared, llama_model
from torch import Tensor

from lifelong.device import has_compiler
from lifelong.settings.model import ModelConfig

_FOR_EVER = 10**9


class Turns:
    """A loop that is not ours, one step at a time.

    ``run`` gets a function that the loop must call once a step; the constructor returns where it first does.
    """

    def __init__(self, run: Callable[[Callable[[], None]], None]) -> None:
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._error: BaseException | None = None
        threads = torch.get_num_threads()

        def work() -> None:
            torch.set_num_threads(threads)  # OpenMP counts them for each thread that computes
            try:
                run(self._pause)
                raise RuntimeError("the loop came to its end")
            except BaseException as error:
                self._error = error
                self._done.release()

        threading.Thread(target=work, daemon=True).start()
        self._wait()

    def step(self) -> None:
        """Let the loop go on until it calls again; what it raises is raised here."""
        self._go.release()
        self._wait()

    def _pause(self) -> None:
        self._done.release()
        self._go.acquire()

    def _wait(self) -> None:
        self._done.acquire()
        if self._error is not None:
            raise self._error


def missing(*packages: str) -> str:
    """Return which of the packages are not installed, as words; empty where all are."""
    absent = [package for package in packages if find_spec(package) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


def hf_trainer(config: ModelConfig, batches: Batches, bf16: bool, adamw: str) -> Contestant:
    """Return `transformers.Trainer` on its Llama; logging, measuring, saving and reporting are off."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    model = llama_model(config)
    rows = len(batches[0][0])
    data = [{"input_ids": ids[row], "labels": labels[row]} for ids, labels in batches for row in range(rows)]
    data *= 100  # at the end of an epoch it sets up its loader anew, which is no part of a step
    arguments = TrainingArguments(
        output_dir=str(Path(tempfile.gettempdir()) / "training_speed"),  # nothing is written there
        per_device_train_batch_size=rows,
        max_steps=_FOR_EVER,
        learning_rate=1e-3,
        weight_decay=0.1,
        max_grad_norm=1.0,
        lr_scheduler_type="constant",
        optim="adamw_torch_fused" if adamw == "fused" else "adamw_torch",
        bf16=bf16,
        use_cpu=True,
        logging_strategy="no",
        eval_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    trainers: list[Any] = []

    def run(pause: Callable[[], None]) -> None:
        # Not where it fetches a batch: accelerate's loader is one batch ahead, and fetches two before the first step.
        class Pausing(TrainerCallback):
            def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
                pause()

        trainers.append(
            Trainer(model=model, args=arguments, train_dataset=data, data_collator=stack, callbacks=[Pausing()])
        )
        trainers[0].train()

    turns = Turns(run)
    trainer = trainers[0]
    flops = config.model_copy(update={"qk_norm": False}).flops_per_token(config.max_seq_len)

    ready = stack(data[:rows])

    def passes() -> None:
        trainer.training_step(model, ready, ready["labels"].numel())

    return Contestant(
        f"transformers Trainer, {adamw} AdamW", model.num_parameters(), flops, cleared(model, passes), turns.step
    )


def stack(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Collate rows for transformers' Llama; ``shift_labels`` are shifted already, so all positions are trained on."""
    labels = torch.stack([row["labels"] for row in rows])
    return {"input_ids": torch.stack([row["input_ids"] for row in rows]), "labels": labels, "shift_labels": labels}


def litgpt(config: ModelConfig, batches: Batches, bf16: bool) -> Contestant:
    """Return litgpt's own model (QK-norm as ours) in `fit`, the loop of its `litgpt pretrain`.

    It is set up as `litgpt.pretrain.main` does: under Lightning's Fabric, compiled as a whole, with torch's AdamW
    (fused on GPUs alone); logging, measuring and saving are off. Where a CPU has no fast bf16 it runs in fp32:
    bf16-mixed, its default, would be emulated.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    import lightning
    from litgpt import GPT, Config
    from litgpt.args import EvalArgs, TrainArgs
    from litgpt.pretrain import fit, initialize_weights
    from litgpt.utils import chunked_cross_entropy, instantiate_torch_optimizer

    shape = Config(
        name="lifelong",
        block_size=config.max_seq_len,
        n_layer=config.num_layers,
        n_embd=config.d_model,
        n_head=config.num_query_heads,
        n_query_groups=config.num_kv_heads,
        head_size=config.head_dim,
        intermediate_size=config.d_ff,
        vocab_size=config.vocab_size,
        padded_vocab_size=config.vocab_size,
        norm_class_name="RMSNorm",
        norm_eps=config.norm_eps,
        norm_qk=config.qk_norm,
        mlp_class_name="LLaMAMLP",
        rotary_percentage=1.0,
        rope_base=int(config.rope_theta),
        parallel_residual=False,
        bias=False,
    )
    fabric = lightning.Fabric(accelerator="cpu", devices=1, precision="bf16-mixed" if bf16 else "32-true")
    fabric.launch()
    with fabric.init_module(empty_init=True):
        bare = GPT(shape)
    initialize_weights(fabric, bare, n_layer=shape.n_layer, n_embd=shape.n_embd)
    if config.tie_embeddings:
        bare.transformer.wte.weight = bare.lm_head.weight
    compiled = has_compiler()
    model = fabric.setup(torch.compile(bare) if compiled else bare)
    optimizer = fabric.setup_optimizers(instantiate_torch_optimizer("AdamW", model.parameters(), fused=False))
    whole = [torch.cat([ids, labels[:, -1:]], dim=1) for ids, labels in batches]  # it shifts by itself
    rows = len(whole[0])

    class Endless:
        def __init__(self, pause: Callable[[], None]) -> None:
            self.pause = pause

        def __iter__(self) -> Iterator[Tensor]:
            for batch in whole:
                self.pause()
                yield batch

    def run(pause: Callable[[], None]) -> None:
        fit(
            fabric=fabric,
            devices=1,
            state={"model": model, "optimizer": optimizer, "iter_num": 0, "step_count": 0},
            train_dataloader=Endless(pause),
            val_dataloader=whole[:1],  # one batch, to verify the settings before the first step
            out_dir=Path(tempfile.gettempdir()),  # nothing is written there
            tokenizer_dir=None,
            train=TrainArgs(
                save_interval=None,
                log_interval=_FOR_EVER,
                global_batch_size=rows,
                micro_batch_size=rows,
                max_tokens=_FOR_EVER * rows * config.max_seq_len,
                max_norm=1.0,
            ),
            eval=EvalArgs(interval=_FOR_EVER, final_validation=False),
        )

    def passes() -> None:
        logits = model(batches[0][0])
        fabric.backward(chunked_cross_entropy(logits, batches[0][1]))

    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it verifies
        turns = Turns(run)
    parameters = sum(weight.numel() for weight in bare.parameters())
    name = "litgpt pretrain, compiled" if compiled else "litgpt pretrain, not compiled (no compiler)"
    return Contestant(name, parameters, config.flops_per_token(config.max_seq_len), cleared(model, passes), turns.step)
