// One process of a host: the endpoints on a port of its own, on the database of all. Tells its parent what it must not do.
import { createServer } from 'node:http'
import { createTotp } from 'totp-kit'
import { jwtTokens } from 'totp-kit/jwt'
import { nodeTotp } from 'totp-kit/node'
import { accountRecovery } from 'totp-kit/recovery'
import { openDatabase } from './databases.mjs'

const { url, encryptionKey, epoch, speed } = JSON.parse(process.argv[2])
const tell = (message) => process.send?.(message)
for (const kind of ['uncaughtException', 'unhandledRejection']) {
  process.on(kind, (error) => tell({ uncaught: String(error?.stack ?? error) }))
}

const { store, end } = await openDatabase(url)
const totp = await createTotp({
  issuer: 'Soak',
  encryptionKey,
  store,
  // Faster than the world, so that an hour holds days of codes, delays and lifetimes.
  clock: () => epoch + Math.floor(((Date.now() - epoch * 1000) / 1000) * speed),
  findUser: (id) => ({ id }),
  rateLimit: 'off',
  maxAuthenticators: 2,
  trustedDevices: { days: 30 },
  onError: () => tell({ failed: 1 }),
})
const jwt = jwtTokens(totp, { authenticate: async (id, password) => (password === `of ${id}` ? id : null) })
const recovery = accountRecovery(totp, {
  findAccount: async (email) => ({ userId: email.split('@')[0], email }),
  checkPassword: async (id, password) => password === `of ${id}`,
  send: async (notice) => tell({ link: notice.url, userId: notice.userId }),
  pageUrl: 'http://127.0.0.1/recover',
})
const caller = async (request) => {
  const bearer = await jwt.verifyAccessToken(request.headers.authorization)
  return bearer && { ...bearer, accountName: bearer.id }
}
const server = createServer(nodeTotp(totp, { caller, jwt, recovery }))
server.listen(0, '127.0.0.1', () => tell({ port: server.address().port }))

process.on('message', async (message) => {
  if (message === 'memory') {
    global.gc?.()
    tell({ heap: process.memoryUsage().heapUsed })
  }
  if (message === 'end') {
    server.close()
    server.closeAllConnections()
    await totp.close()
    await end()
    process.disconnect()
  }
})
