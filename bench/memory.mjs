/**
 * Does memory grow with the number of verifications? Logs the same users in again and again, in one process, with a given
 * clock, and reads heap and resident memory at intervals, after a full collection. Prints JSON. Needs `--expose-gc`.
 */
import { createTotp, generateFernetKey } from '../dist/index.js'
import { memoryStore } from '../dist/store/memory.js'
import { authenticatorFor, fakeClock } from '../dist/testing/index.js'
import { progress } from './measure.mjs'

const LOGINS = Number(process.env.BENCH_LOGINS ?? (process.argv.includes('--short') ? 100_000 : 1_000_000))
const USERS = 1000
const SAMPLES = 10

const clock = fakeClock(1_800_000_000)
const totp = await createTotp({
  issuer: 'Bench',
  encryptionKey: generateFernetKey(),
  store: memoryStore(),
  clock: clock.now,
})
const phones = new Map()
for (let n = 0; n < USERS; n++) {
  const id = `user-${n}`
  const phone = authenticatorFor((await totp.createTotpSetup({ id, accountName: id })).uri)
  await totp.confirmTotpSetup(id, phone.codeAt(clock.now()))
  phones.set(id, phone)
}
// Burnt challenges are kept until they expire: the first sample is taken when as many are kept as ever will be.
await logIn(LOGINS / 50)
const samples = [read(0)]
for (let sample = 1; sample <= SAMPLES; sample++) {
  await logIn(LOGINS / SAMPLES)
  samples.push(read((LOGINS / SAMPLES) * sample))
  progress(`memory: ${samples.at(-1).logins.toLocaleString('en')} verifications, heap ${samples.at(-1).heapKb} kB`)
}
process.stdout.write(JSON.stringify(samples))

async function logIn(count) {
  for (let done = 0; done < count; done += USERS) {
    clock.advance(30)
    for (const [id, phone] of phones) {
      const token = await totp.generateChallengeToken(id)
      const code = phone.codeAt(clock.now())
      // Once in a million a phone shows the same code twice in a row, and the second is a code that was used.
      await totp.answerChallenge(token, { method: 'totp', code }).catch((error) => {
        if (error.code !== 'code_already_used') throw error
      })
    }
  }
}

function read(logins) {
  globalThis.gc()
  globalThis.gc()
  const { rss, heapUsed, external } = process.memoryUsage()
  return { logins, heapKb: Math.round((heapUsed + external) / 1024), rssKb: Math.round(rss / 1024) }
}
