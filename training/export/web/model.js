// The model of this folder: text to tokens, tokens to the most likely next one. Everything is loaded from here.
import * as ort from "./lib/ort.wasm.bundle.min.mjs";
import { Tokenizer } from "./lib/tokenizers.min.mjs";
import { Template } from "./lib/jinja.mjs";

const here = (name) => new URL(name, import.meta.url).href;

async function open(name) {
  const answer = await fetch(here(name));
  if (!answer.ok) throw new Error(`${name}: HTTP ${answer.status}`);
  return answer;
}

const json = async (name) => (await open(name)).json();

/** The bytes of a file of known size; says of each part that has come how large it is. */
async function download({ path, bytes }, onPart) {
  const data = new Uint8Array(bytes);
  const parts = (await open(path)).body.getReader();
  let filled = 0;
  for (let part = await parts.read(); !part.done; part = await parts.read()) {
    data.set(part.value, filled);
    filled += part.value.length;
    onPart(part.value.length);
  }
  if (filled !== bytes) throw new Error(`${path}: ${filled} of ${bytes} bytes came`);
  return { path, data };
}

ort.env.wasm.wasmPaths = here("./lib/");
// Threads need headers (COOP, COEP) that a plain file server does not send.
ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;

/** Loads everything; `onProgress(done, all)` is told of the weights' bytes, which on a slow line take minutes. */
export async function load(onProgress = () => {}) {
  const [facts, tokenizer, config] = await Promise.all(["web.json", "tokenizer.json", "tokenizer_config.json"].map(json));
  const all = facts.external.reduce((sum, file) => sum + file.bytes, 0);
  let done = 0;
  const externalData = await Promise.all(
    facts.external.map((file) => download(file, (bytes) => onProgress((done += bytes), all))),
  );
  const session = await ort.InferenceSession.create(here("model.onnx"), { executionProviders: ["wasm"], externalData });
  return new Model(facts, new Tokenizer(tokenizer, config), session);
}

export class Model {
  constructor(facts, tokenizer, session) {
    Object.assign(this, { facts, tokenizer, session });
    this.template = facts.chat_template ? new Template(facts.chat_template) : null;
  }

  /** Token ids of a conversation, or of its last text where the model has no chat template. */
  encode(messages) {
    if (this.template === null) return this.tokenizer.encode(messages.at(-1).content).ids;
    const special = { bos_token: this.facts.bos_token, eos_token: this.facts.eos_token };
    const text = this.template.render({ messages, add_generation_prompt: true, ...special });
    return this.tokenizer.encode(text, { add_special_tokens: false }).ids;
  }

  decode(ids) {
    return this.tokenizer.decode(ids, { skip_special_tokens: true });
  }

  /** The most likely next token: the whole text is read again, since the file has no cache. */
  async next(ids) {
    const shape = [1, ids.length];
    const feeds = {
      input_ids: new ort.Tensor("int64", BigInt64Array.from(ids, BigInt), shape),
      attention_mask: new ort.Tensor("int64", new BigInt64Array(ids.length).fill(1n), shape),
    };
    const { logits } = await this.session.run(feeds);
    const vocabulary = logits.dims[2];
    const last = logits.data.subarray(logits.data.length - vocabulary);
    let best = 0;
    for (let token = 1; token < vocabulary; token++) if (last[token] > last[best]) best = token;
    return best;
  }

  /** Yields the answer's tokens, one at a time, until its end, `most` tokens, or the model's context. */
  async *generate(prompt, most) {
    const ids = [...prompt];
    for (let count = 0; count < most && ids.length < this.facts.context; count++) {
      const token = await this.next(ids);
      if (this.facts.eos.includes(token)) return;
      ids.push(token);
      yield token;
    }
  }
}
