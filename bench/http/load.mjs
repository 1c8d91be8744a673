/**
 * The load: sends prepared requests over so many connections, each the next one when it has its answer. Writes HTTP by
 * hand, so that the core it runs on does not set the limit.
 */
import { connect } from 'node:net'

let ready = null

process.on('message', async ({ id, ask, ...rest }) => {
  try {
    process.send({ id, answer: ask === 'open' ? await open(rest) : await go() })
  } catch (error) {
    process.send({ id, error: String(error?.stack ?? error) })
  }
})
process.on('disconnect', () => process.exit())
process.send({ id: 0, answer: null })

async function open({ ports, requests, connections, host }) {
  const lanes = await Promise.all(Array.from({ length: connections }, (_, n) => lane(ports[n % ports.length])))
  ready = { lanes, requests: requests.map((request) => bytesOf(request, host)) }
}

async function go() {
  const { lanes, requests } = ready
  const microseconds = new Float64Array(requests.length)
  const statuses = {}
  let next = 0
  const begin = performance.now()
  await Promise.all(
    lanes.map(async (send) => {
      while (next < requests.length) {
        const own = next++
        const from = performance.now()
        const { status, text } = await send(requests[own])
        microseconds[own] = (performance.now() - from) * 1000
        statuses[status] ??= { count: 0, example: text.slice(0, 300) }
        statuses[status].count++
      }
    }),
  )
  const seconds = (performance.now() - begin) / 1000
  for (const send of lanes) send.close()
  const sorted = microseconds.sort()
  const at = (part) => sorted[Math.floor((sorted.length - 1) * part)]
  return { seconds, p50: at(0.5), p99: at(0.99), statuses }
}

function bytesOf({ method, path, headers, body }, host) {
  const head = { host, ...headers, ...(method === 'GET' ? {} : { 'content-length': Buffer.byteLength(body) }) }
  const lines = Object.entries(head).map(([name, value]) => `${name}: ${value}`)
  return Buffer.from(`${method} ${path} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n${body}`)
}

async function lane(port) {
  const socket = connect(port, '127.0.0.1')
  socket.setNoDelay(true)
  await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject))
  let waiting = null
  let got = ''
  socket.setEncoding('latin1')
  socket.on('data', (text) => {
    got += text
    const answer = answerIn(got)
    if (answer === null) return
    got = ''
    waiting?.resolve(answer)
    waiting = null
  })
  const broken = (error) => waiting?.reject(error ?? new Error(`connection closed after: ${got.slice(0, 300)}`))
  socket.on('error', broken)
  socket.on('close', () => broken())
  const send = (bytes) =>
    new Promise((resolve, reject) => {
      waiting = { resolve, reject }
      socket.write(bytes)
    })
  return Object.assign(send, { close: () => socket.destroy() })
}

/** Null while some of it is missing. */
function answerIn(text) {
  const end = text.indexOf('\r\n\r\n')
  if (end === -1) return null
  const head = text.slice(0, end)
  const body = text.slice(end + 4)
  const length = /\r\ncontent-length: *(\d+)/i.exec(head)
  const whole = length ? body.length >= Number(length[1]) : body.endsWith('0\r\n\r\n')
  return whole ? { status: head.slice(9, 12), text: body } : null
}
