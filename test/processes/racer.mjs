// One of several processes on SQLite files: says that it is ready, waits for a line with calls, makes them one after the
// other, prints the answers, and waits for the next line.
import { createInterface } from 'node:readline'
import { sqliteStore } from 'totp-kit/store/sqlite'

/** Opened before the race, where its path is given; other files are opened in it. */
const [opened] = await Promise.all(process.argv.slice(2).map((path) => sqliteStore(path)))
console.log('ready')

for await (const line of createInterface({ input: process.stdin })) {
  const { path, calls } = JSON.parse(line)
  const store = opened ?? (await sqliteStore(path))
  const answers = []
  for (const [operation, ...parameters] of calls) answers.push(await store[operation](...parameters))
  if (store !== opened) await store.close()
  console.log(JSON.stringify(answers))
}
