// The `@anthropic-ai/sdk` package made safe by one line: `fetch`. Sends QUESTIONS at once, every other one streamed, and prints what came
// back.
//
//   PERMITD=http://127.0.0.1:7110 ANTHROPIC_BASE_URL=http://127.0.0.1:8080 ANTHROPIC_API_KEY=key node anthropic.js
import Anthropic from "@anthropic-ai/sdk";
import { connect } from "permitd";

const client = await connect(process.env.PERMITD ?? "http://127.0.0.1:7110", { tenant: "example" });
const anthropic = new Anthropic({ fetch: client.fetch("anthropic/prod") });

async function ask(question: string): Promise<string> {
  const message = await anthropic.messages.create(request(question));
  return message.content.map((block) => (block.type === "text" ? block.text : "")).join("");
}

async function stream(question: string): Promise<string> {
  return anthropic.messages.stream(request(question)).finalText();
}

function request(content: string) {
  return { model: "claude-sonnet-5", max_tokens: 50, messages: [{ role: "user" as const, content }] };
}

const questions = Array.from({ length: Number(process.env.QUESTIONS ?? 10) }, (_, at) => `What is ${at} plus ${at}?`);
const answers = await Promise.all(questions.map((question, at) => (at % 2 ? stream(question) : ask(question))));
console.log(`${answers.filter((answer) => answer !== "").length} answers`);
await client.close();
