"""The meta-training: outer loops as LightningModules, second-order steps, saving, progress, compilation."""
