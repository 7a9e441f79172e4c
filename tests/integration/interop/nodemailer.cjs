// One message by Nodemailer: node nodemailer.cjs HOST PORT plain|tls SENDER RECIPIENTS MESSAGE
const fs = require("fs");
const nodemailer = require("nodemailer");

const [host, port, tls, from, recipients, message] = process.argv.slice(2);
const transport = nodemailer.createTransport({
  host,
  port: Number(port),
  name: "program.test",
  ignoreTLS: tls !== "tls",
  requireTLS: tls === "tls",
  tls: { rejectUnauthorized: false },
});
const to = fs.readFileSync(recipients, "utf8").split(/\s+/).filter(Boolean);
transport
  .sendMail({ envelope: { from, to, use8BitMime: true }, raw: fs.createReadStream(message) })
  .then((sent) => process.exit(sent.rejected.length ? 1 : 0))
  .catch((error) => {
    console.error(error);
    process.exit(1);
  });
