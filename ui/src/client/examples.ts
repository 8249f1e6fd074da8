// Payloads to begin with.

import firstPicture from "../../../examples/first-picture.json";

interface Example {
  name: string;
  hint: string;
  workflow: unknown;
}

const textToImage = {
  "3": {
    class_type: "KSampler",
    inputs: {
      seed: 20260101, steps: 20, cfg: 7, sampler_name: "euler", scheduler: "normal", denoise: 1,
      model: ["4", 0], positive: ["6", 0], negative: ["7", 0], latent_image: ["5", 0],
    },
  },
  "4": { class_type: "CheckpointLoaderSimple", inputs: { ckpt_name: "sim-v1.safetensors" } },
  "5": { class_type: "EmptyLatentImage", inputs: { width: 512, height: 512, batch_size: 1 } },
  "6": { class_type: "CLIPTextEncode", inputs: { text: "a signal box at dawn, oil painting", clip: ["4", 1] } },
  "7": { class_type: "CLIPTextEncode", inputs: { text: "blurry", clip: ["4", 1] } },
  "8": { class_type: "VAEDecode", inputs: { samples: ["3", 0], vae: ["4", 2] } },
  "9": { class_type: "SaveImage", inputs: { filename_prefix: "pointsman", images: ["8", 0] } },
};

export const EXAMPLES: Example[] = [
  { name: "First picture", hint: "needs no model: runs on every ComfyUI", workflow: firstPicture },
  { name: "Text to image", hint: "needs the checkpoint it names; the simulator has it", workflow: textToImage },
];
