// Node's own HTTP server: the words of the request come back as events, five a second.
const http = require("node:http");

const server = http.createServer(async (request, response) => {
  let text = "";
  for await (const piece of request) text += piece;
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  const words = text.split(/\s+/).filter(Boolean);
  const timer = setInterval(() => {
    const word = words.shift();
    if (word === undefined) {
      clearInterval(timer);
      response.end();
    } else {
      response.write(`data: ${word}\n\n`);
    }
  }, 200);
  response.on("close", () => clearInterval(timer)); // the caller left
});

server.listen(3000, () => console.log("ready"));
