// A plugin of Haraka: takes any recipient of one domain and writes down what came, before it is acknowledged. STRATAMX_RECORD is a directory:
// for each transaction a file with its octets, by its number in the order of MAIL, and behind that a line of JSON in `arrivals`.
'use strict'

const fs = require('node:fs')
const path = require('node:path')

const directory = process.env.STRATAMX_RECORD
const domain = process.env.STRATAMX_DOMAIN
let mails = 0

exports.hook_mail = function (next, connection) {
    mails += 1
    connection.transaction.notes.number = mails
    next()
}

exports.hook_rcpt = function (next, connection, [recipient]) {
    if (recipient.host.toLowerCase() === domain) return next(OK)
    next(DENY, 'relay not permitted')
}

exports.hook_queue = function (next, connection) {
    const { message_stream, notes, mail_from, rcpt_to } = connection.transaction
    const line = {
        number: notes.number,
        reverse_path: mail_from.address || '',
        recipients: rcpt_to.map((recipient) => recipient.address),
        tls: Boolean(connection.tls.enabled),
    }
    const file = fs.createWriteStream(path.join(directory, String(notes.number)))
    file.once('error', (error) => next(DENYSOFT, error.message))
    file.once('close', () => {
        fs.appendFileSync(path.join(directory, 'arrivals'), `${JSON.stringify(line)}\n`)
        next(OK, `taken as ${notes.number}`)
    })
    message_stream.pipe(file)
}
