// The `openai` package made safe by one line: `fetch`. Sends QUESTIONS at once, every other one streamed, and prints what came back.
//
//   PERMITD=http://127.0.0.1:7110 OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=key node openai.js
import OpenAI from "openai";
import { connect } from "permitd";

const client = await connect(process.env.PERMITD ?? "http://127.0.0.1:7110", { tenant: "example" });
const openai = new OpenAI({ fetch: client.fetch("openai/prod") });

async function ask(question: string): Promise<string> {
  const answer = await openai.chat.completions.create({
    model: "gpt-5",
    max_completion_tokens: 50,
    messages: [{ role: "user", content: question }],
  });
  return answer.choices[0]?.message.content ?? "";
}

async function stream(question: string): Promise<string> {
  const chunks = await openai.chat.completions.create({
    model: "gpt-5",
    max_completion_tokens: 50,
    messages: [{ role: "user", content: question }],
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = "";
  for await (const chunk of chunks) text += chunk.choices[0]?.delta.content ?? "";
  return text;
}

const questions = Array.from({ length: Number(process.env.QUESTIONS ?? 10) }, (_, at) => `What is ${at} plus ${at}?`);
const answers = await Promise.all(questions.map((question, at) => (at % 2 ? stream(question) : ask(question))));
console.log(`${answers.filter((answer) => answer !== "").length} answers`);
await client.close();
