/** `npx ruvllm copy FOLDER`. */
import { copyInto } from "./files.js";

const HELP = `Usage: ruvllm copy FOLDER

  Copy all that a page fetches (Python, models, the library) into a folder that your site serves.

  Examples:
    npx ruvllm copy public/ruvllm
  and then in the page
    const llm = await RuvLLM.load({ baseURL: "/ruvllm/" });
`;

/** The command; its exit code. */
export async function main(given: readonly string[]): Promise<number> {
  const [command, folder, ...more] = given;
  if (given.length === 0 || given.some((one) => one === "--help" || one === "-h")) {
    console.log(HELP);
    return 0;
  }
  if (command !== "copy" || !folder || more.length > 0) {
    console.error(HELP);
    return 2;
  }
  try {
    const files = await copyInto(folder);
    const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
    console.log(`${files.length} files, ${(bytes / 1e6).toFixed(1)} MB in ${folder}`);
    return 0;
  } catch (error) {
    console.error(`ruvllm: ${(error as Error).message}`);
    return 1;
  }
}
