"""Keys and types of TAO VisualChangeNet's experiment spec, release 7.3.0, and since when each exists.

Facts read off NVIDIA's `ExperimentConfig` (package `nvidia-tao-pytorch` 7.3.0, Apache-2.0): names and types only. Release
7.0.1 is the same tree without `train.checkpointer`. One group a paragraph: ``key=type``, where
``?`` allows null, ``[int]`` is a list and ``{int}`` a mapping with free keys.
"""

TREE = """
(top):
  model_name=str? encryption_key=str? results_dir=str? task=str?
wandb:
  enable=bool project=str entity=str? group=str? tags=[str] reinit=bool sync_tensorboard=bool save_code=bool name=str
  run_id=str
model.backbone:
  type=str feat_downsample=bool pretrained_backbone_path=str? freeze_backbone=bool
model.decode_head:
  in_channels=[int] in_index=[int] feature_strides=[int] align_corners=bool decoder_params={int}
  use_summary_token=bool
model.classify:
  train_margin_euclid=float eval_margin=float embedding_vectors=int embed_dec=int learnable_difference_modules=int
  difference_module=str?
model:
  precise_msda=bool
dataset.segment:
  root_dir=str label_transform=str data_name=str dataset=str multi_scale_train=bool multi_scale_infer=bool
  num_classes=int img_size=int batch_size=int workers=int shuffle=bool image_folder_name=str
  change_image_folder_name=str list_folder_name=str annotation_folder_name=str train_split=str validation_split=str
  test_split=str predict_split=str label_suffix=str color_map={[int]}?
dataset.segment.augmentation.random_flip:
  vflip_probability=float hflip_probability=float enable=bool
dataset.segment.augmentation.random_rotate:
  rotate_probability=float angle_list=[float] enable=bool
dataset.segment.augmentation.random_color:
  brightness=float contrast=float saturation=float hue=float enable=bool color_probability=float
dataset.segment.augmentation.with_scale_random_crop:
  scale_range=[float] enable=bool
dataset.segment.augmentation:
  with_random_blur=bool with_random_crop=bool mean=[float] std=[float]
dataset.segment.quant_calibration_dataset:
  images_dir=str
dataset.classify.train_dataset:
  csv_path=str images_dir=str
dataset.classify.validation_dataset:
  csv_path=str images_dir=str
dataset.classify.test_dataset:
  csv_path=str images_dir=str
dataset.classify.infer_dataset:
  csv_path=str images_dir=str
dataset.classify:
  image_ext=str? batch_size=int workers=int fpratio_sampling=float num_input=int input_map={int}? grid_map={int}?
  concat_type=str? image_width=int image_height=int num_classes=int num_golden=int
dataset.classify.augmentation_config:
  rgb_input_mean=[float] rgb_input_std=[float] with_random_blur=bool with_random_crop=bool augment=bool
dataset.classify.augmentation_config.random_flip:
  vflip_probability=float hflip_probability=float enable=bool
dataset.classify.augmentation_config.random_rotate:
  rotate_probability=float angle_list=[float] enable=bool
dataset.classify.augmentation_config.random_color:
  brightness=float contrast=float saturation=float hue=float enable=bool color_probability=float
dataset.classify.augmentation_config.with_scale_random_crop:
  scale_range=[float] enable=bool
dataset.classify.quant_calibration_dataset:
  images_dir=str
train:
  num_gpus=int gpu_ids=[int] num_nodes=int seed=int num_epochs=int checkpoint_interval=int
  checkpoint_interval_unit=str validation_interval=int resume_training_checkpoint_path=str? results_dir=str?
  pretrained_model_path=str? precision=str sync_batchnorm=bool use_distributed_sampler=bool
train.cudnn:
  benchmark=bool deterministic=bool
train.checkpointer:
  enable_topk=bool replace_periodic=bool monitor=str? mode=str? save_top_k=int filename=str dirpath=str?
  auto_insert_metric_name=bool
train.optim:
  monitor_name=str optim=str lr=float policy=str momentum=float weight_decay=float
train.classify:
  loss=str cls_weight=[float]
train.segment:
  loss=str weights=[float]
train.tensorboard:
  enabled=bool infrequent_logging_frequency=int
evaluate:
  num_gpus=int gpu_ids=[int] num_nodes=int checkpoint=str trt_engine=str? results_dir=str? batch_size=int
  vis_after_n_batches=int
inference:
  num_gpus=int gpu_ids=[int] num_nodes=int checkpoint=str trt_engine=str? results_dir=str? batch_size=int
  vis_after_n_batches=int
export:
  results_dir=str? gpu_id=int checkpoint=str onnx_file=str on_cpu=bool input_channel=int input_width=int
  input_height=int opset_version=int batch_size=int verbose=bool format=str serialize_nvdsinfer=bool
gen_trt_engine:
  results_dir=str? gpu_id=int onnx_file=str trt_engine=str? timing_cache=str? batch_size=int verbose=bool
gen_trt_engine.tensorrt:
  workspace_size=int min_batch_size=int opt_batch_size=int max_batch_size=int layers_precision=[str]? data_type=str
gen_trt_engine.tensorrt.calibration:
  cal_image_dir=[str] cal_cache_file=str cal_batch_size=int cal_batches=int
quantize:
  backend=str? mode=str? algorithm=str? layers=[any]? skip_names=[str]? model_path=str? results_dir=str?
  backend_kwargs={any}? device=str
"""

# Dotted prefix -> first release that knows it.
SINCE = {
    "model.precise_msda": (7, 0, 1),
    "train.checkpointer": (7, 1, 0),
}

# Backbones that `classify` builds, by the family whose rules they share.
BACKBONES = {
    "fan_tiny_8_p4_hybrid": "fan",
    "fan_small_12_p4_hybrid": "fan",
    "fan_base_16_p4_hybrid": "fan",
    "fan_large_16_p4_hybrid": "fan",
    "vit_large_nvdinov2": "vit",
    "c_radio_p1_vit_huge_patch16_224_mlpnorm": "radio",
    "c_radio_p2_vit_huge_patch16_224_mlpnorm": "radio",
    "c_radio_p3_vit_huge_patch16_224_mlpnorm": "radio",
    "c_radio_v2_vit_base_patch16_224": "radio",
    "c_radio_v2_vit_large_patch16_224": "radio",
    "c_radio_v2_vit_huge_patch16_224": "radio",
    "vit_small_dinov3": "dinov3",
    "vit_small_plus_dinov3": "dinov3",
    "vit_base_dinov3": "dinov3",
    "vit_large_dinov3": "dinov3",
    "vit_huge_plus_dinov3": "dinov3",
    "vit_7b_dinov3": "dinov3",
}
FAMILY_SINCE = {"dinov3": (7, 1, 0)}

# TAO's own default of each key that a rule looks at (a spec may leave it out).
DEFAULTS = {
    "task": "segment",
    "model.backbone.type": "fan_small_12_p4_hybrid",
    "model.backbone.freeze_backbone": False,
    "model.backbone.pretrained_backbone_path": None,
    "model.decode_head.feature_strides": [4, 8, 16, 16],
    "model.classify.difference_module": "euclidean",
    "model.classify.learnable_difference_modules": 4,
    "dataset.classify.image_ext": None,
    "dataset.classify.batch_size": 8,
    "dataset.classify.num_input": 8,
    "dataset.classify.input_map": None,
    "dataset.classify.grid_map": None,
    "dataset.classify.concat_type": None,
    "dataset.classify.image_width": 224,
    "dataset.classify.image_height": 224,
    "dataset.classify.num_classes": 2,
    "dataset.classify.num_golden": 1,
    "train.num_gpus": 1,
    "train.num_nodes": 1,
    "train.num_epochs": 10,
    "train.checkpoint_interval": 1,
    "train.checkpoint_interval_unit": "epoch",
    "train.validation_interval": 1,
    "train.classify.loss": "contrastive",
    "train.classify.cls_weight": [1.0, 10.0],
    "train.optim.optim": "adamw",
    "train.optim.policy": "linear",
    "train.tensorboard.enabled": False,
    "train.tensorboard.infrequent_logging_frequency": 2,
    "inference.num_gpus": 1,
    "evaluate.num_gpus": 1,
}
