import ruvllm from "ruvllm/vite";

export default { plugins: [ruvllm()], oxc: { jsx: { runtime: "automatic" } } };
