import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { memoryStore } from 'totp-kit/store/memory'
import { sqliteStore } from 'totp-kit/store/sqlite'
import { storeCases } from 'totp-kit/testing'
import { afterAll, beforeAll, describe, test } from 'vitest'
import type { TotpStore } from '../src/store/store.ts'

let directory: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'totp-kit-stores-'))
})
afterAll(async () => {
  await rm(directory, { recursive: true })
})

describe('memoryStore', () => {
  for (const { name, run } of storeCases) {
    test(name, async () => {
      const store = memoryStore()
      await run(async () => store)
    })
  }
})

describe('sqliteStore', () => {
  for (const [index, { name, run }] of storeCases.entries()) {
    test(name, async () => {
      const connections: TotpStore[] = []
      const open = async () => {
        const store = await sqliteStore(join(directory, `case-${index}.db`))
        connections.push(store)
        return store
      }
      try {
        await run(open)
      } finally {
        for (const connection of connections) await connection.close()
      }
    })
  }
})
