import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

/** A way to a server that a test can cut, close and open again. The server itself goes on for everybody else. */
export interface Way {
  /** The server's URL by this way; the port stays the same when the way is closed and opened. */
  url: string
  /** From now on connections are refused; those that there are break. */
  close(): Promise<void>
  open(): Promise<void>
  /** New connections go to another server from now on; those that there are break. */
  leadTo(target: string): void
  /** Cuts all connections when a client sends `text`: `before` it gets to the server, or once the server has `answered`. */
  cutAt(text: string, when: 'before' | 'answered'): void
  /** As when the server's machine is gone: the connections that there are get no answer any more. New ones are served. */
  forsake(): void
  /** From now on connections are accepted and nothing is ever answered, until the way is closed. */
  fallSilent(): void
}

export async function wayTo(target: string): Promise<Way> {
  let { hostname, port } = new URL(target)
  const sockets = new Set<Socket>()
  let cut: { text: string; when: 'before' | 'answered' } | null = null
  let isSilent = false
  const forsaken = new Set<Socket>()
  const breakAll = () => {
    cut = null
    for (const socket of sockets) socket.destroy()
  }
  const server = createServer((near) => {
    const far = connect(Number(port), hostname)
    let answerIsLost = false
    for (const socket of [near, far]) {
      sockets.add(socket)
      socket.on('error', () => undefined)
      socket.once('close', () => {
        sockets.delete(socket)
        forsaken.delete(socket)
        near.destroy()
        far.destroy()
      })
    }
    near.on('data', (chunk: Buffer) => {
      if (isSilent || forsaken.has(near)) return
      if (cut && chunk.includes(cut.text)) {
        if (cut.when === 'before') return breakAll()
        answerIsLost = true
      }
      far.write(chunk)
    })
    far.on('data', (chunk: Buffer) => {
      if (isSilent || forsaken.has(near)) return
      if (answerIsLost) return breakAll()
      near.write(chunk)
    })
  })
  const listen = async (on: number) => {
    server.listen(on, '127.0.0.1')
    await once(server, 'listening')
    return (server.address() as AddressInfo).port
  }
  const own = await listen(0)
  const url = new URL(target)
  url.hostname = '127.0.0.1'
  url.port = String(own)
  return {
    url: url.href,
    async close() {
      isSilent = false
      if (!server.listening) return
      const closed = once(server, 'close')
      server.close()
      breakAll()
      await closed
    },
    async open() {
      await listen(own)
    },
    leadTo(target) {
      ;({ hostname, port } = new URL(target))
      isSilent = false
      breakAll()
    },
    cutAt(text, when) {
      cut = { text, when }
    },
    forsake() {
      for (const socket of sockets) forsaken.add(socket)
    },
    fallSilent() {
      isSilent = true
    },
  }
}
