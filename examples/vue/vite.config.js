import vue from "@vitejs/plugin-vue";
import ruvllm from "ruvllm/vite";

const isCustomElement = (tag) => tag === "ruvllm-router";
export default { plugins: [vue({ template: { compilerOptions: { isCustomElement } } }), ruvllm()] };
