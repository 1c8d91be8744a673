/** What is mutated, and the tests that a mutant there has to pass: those that reach the room in this process. */
export const rooms = {
  otp: { mutate: ['src/otp/**/*.ts'], tests: ['src/otp/*.test.ts'] },
  crypto: { mutate: ['src/crypto/**/*.ts'], tests: ['src/crypto/*.test.ts'] },
  flows: { mutate: ['src/flows/**/*.ts'], tests: ['src/*.test.ts', 'test/mail.test.ts', 'test/http/wire-*.test.ts'] },
  store: {
    mutate: ['src/store/*.ts', 'src/store/sql/*.ts', '!src/store/{mysql,postgres}.ts', '!src/store/sql/pooled.ts'],
    tests: ['test/stores.test.ts', 'test/sqlite.test.ts', 'test/migrations.test.ts'],
  },
  servers: {
    mutate: ['src/store/{mysql,postgres}.ts', 'src/store/sql/pooled.ts'],
    tests: ['test/stores.test.ts', 'test/postgres.test.ts', 'test/mysql.test.ts', 'test/within.test.ts'],
  },
}

/** The room that `ROOM` names. */
export const room = rooms[process.env.ROOM ?? '']
if (room === undefined) throw new Error(`ROOM is one of ${Object.keys(rooms).join(', ')}`)
