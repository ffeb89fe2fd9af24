// Leads a server that listens on a fixed port to the replica's own port on loopback.
// TAILRACE_PORTS is "5000,8080,3000:41234": the ports that mean the replica's own, and that one.
"use strict";
const net = require("node:net");

const [fixed, own] = (process.env.TAILRACE_PORTS ?? "").split(":");
if (own) {
  const ports = new Set([...fixed.split(",").filter(Boolean).map(Number), Number(own)]);
  const real = net.Server.prototype.listen;
  net.Server.prototype.listen = function listen(...args) {
    const first = args[0];
    const isOptions = typeof first === "object" && first !== null && "port" in first;
    const port = isOptions ? Number(first.port) : Number(first);
    if (!ports.has(port)) return real.apply(this, args);
    const then = args.find((arg) => typeof arg === "function");
    const options = { ...(isOptions ? first : {}), host: "127.0.0.1", port: Number(own), ipv6Only: undefined };
    return real.call(this, options, ...(then ? [then] : []));
  };
}
