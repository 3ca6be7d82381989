const MOST_TOKENS = 256;
const [log, form, text, send, state] = ["log", "form", "text", "send", "state"].map((id) => document.getElementById(id));
const messages = [];

function say(role, content) {
  const line = document.createElement("p");
  line.className = role;
  line.textContent = content;
  log.append(line);
  line.scrollIntoView({ block: "nearest" });
  return line;
}

async function answer(model) {
  const line = say("assistant", "…");
  const started = performance.now();
  const tokens = [];
  for await (const token of model.generate(model.encode(messages), MOST_TOKENS)) {
    tokens.push(token);
    line.textContent = model.decode(tokens);
    state.textContent = `${tokens.length} tokens, ${(tokens.length / ((performance.now() - started) / 1000)).toFixed(1)} a second`;
    await new Promise(requestAnimationFrame);
  }
  line.textContent = model.decode(tokens);
  messages.push({ role: "assistant", content: line.textContent });
}

state.textContent = "Loading …";
try {
  const facts = await (await fetch("web.json")).json();
  document.title = document.getElementById("name").textContent = facts.checkpoint;
  document.getElementById("digest").textContent = facts.digest;
  // Here, and not at the top: a server that gives scripts a wrong type is told of below.
  const { load } = await import("./model.js");
  const megabytes = (bytes) => (bytes / 1e6).toFixed(0);
  const model = await load((done, all) => {
    state.textContent = done < all ? `Loading: ${megabytes(done)} of ${megabytes(all)} MB` : "Starting …";
  });
  state.textContent = "Ready";
  send.disabled = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    messages.push({ role: "user", content: text.value });
    say("user", text.value);
    text.value = "";
    send.disabled = true;
    try {
      await answer(model);
    } catch (error) {
      state.textContent = `The model failed: ${error.message ?? error}`;
    }
    send.disabled = false;
    text.focus();
  });
} catch (error) {
  state.textContent = `The model cannot be loaded: ${error.message ?? error}`;
}
