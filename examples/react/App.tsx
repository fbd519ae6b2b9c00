// In a project of `npm create vite@latest -- --template react-ts`, after `npm install ruvllm`.
import { useState } from "react";
import type { Decision } from "ruvllm";
import "ruvllm/element";
import type {} from "ruvllm/react";
import { useRouter } from "./useRouter";

export default function App() {
  const [decision, show] = useState<Decision>();
  const router = useRouter({ state: "memory" });
  const ask = async () => show(await router?.route("add unit tests for the auth module"));
  return (
    <main>
      {/* React 18 hears no `onroute`: there it is `ref` and `addEventListener` */}
      <ruvllm-router label="What is to be done?" onroute={(event) => show(event.detail)} />
      <button onClick={() => void ask()} disabled={!router}>Who tests?</button>
      <p>{decision && `${decision.agent}: ${decision.action}`}</p>
    </main>
  );
}
