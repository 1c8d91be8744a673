import { generateFernetKey, type TotpStore } from 'totp-kit'
import { type PostgresStore, postgresStore } from 'totp-kit/store/postgres'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { postgresPool, services } from '../services.ts'
import { type Front, NODE, type Service, type ServiceOptions, startService } from './harness.ts'
import { paths } from './matrix/paths.ts'
import { type Cell, type Finding, rules } from './matrix/rules.ts'

/**
 * Path × rule: every way that accepts a code or a token, held to every rule, over HTTP. In Keycloak, Parse Server, Gitea
 * and devise-two-factor the first fix was incomplete because a rule was tested on one path.
 */
const encryptionKey = generateFernetKey()
const options = (idPrefix: string): ServiceOptions => ({
  encryptionKey,
  idPrefix,
  challengeTokenSeconds: 3600,
  tokens: { accessTokenSeconds: 3600 },
  enforcement: {
    required: ({ username }) => username.startsWith('must-enroll'),
    accountName: ({ email }) => email,
  },
})

/** What each cell was found to be; the databases must agree on all that is not about the host's transaction. */
const found = new Map<string, Finding>()

async function onSqlite(idPrefix: string): Promise<Cell> {
  return { service: await startService(NODE, options(idPrefix)), rolledBack: null }
}

let pool: Awaited<ReturnType<typeof postgresPool>>
let store: PostgresStore

async function onPostgres(idPrefix: string): Promise<Cell> {
  const front = (store: TotpStore): Front => ({ ...NODE, store: async () => store })
  const service = await startService(front(store), options(idPrefix))
  const rolledBack = async (work: (inside: Service) => Promise<void>) => {
    const client = await pool.pool.connect()
    onTestFinished(() => client.release())
    const { people } = service
    await client.query('BEGIN')
    const inside = await startService(front(store.within(client)), { ...options(idPrefix), people })
    inside.clock.advance(service.clock.now() - inside.clock.now())
    await work(inside)
    await client.query('ROLLBACK')
  }
  return { service, rolledBack }
}

function runMatrix(open: (idPrefix: string) => Promise<Cell>): void {
  describe.each(rules)('$name: $sentence', (rule) => {
    test.each(paths)('$name', async (path) => {
      const cell = `${path.name} × ${rule.name}`
      const finding = await rule.check(path, await open(`${cell} `.replace(/[^a-z]+/gi, '-')))
      if (finding === 'holds' || !found.has(cell)) found.set(cell, finding)
    })
  })
}

describe('SQLite', () => runMatrix(onSqlite))

describe.skipIf(!services.postgres)('PostgreSQL', () => {
  beforeAll(async () => {
    pool = await postgresPool()
    store = postgresStore(pool.pool)
    await store.migrate()
  })
  afterAll(() => pool.drop())
  runMatrix(onPostgres)
})

test.skipIf(!services.postgres)('docs/path-rule-matrix.md says what was found', async () => {
  const reasons = new Map<string, number>()
  const mark = (finding: Finding | undefined) => {
    if (finding === undefined) return 'MISSING'
    if (finding === 'holds') return '✓'
    reasons.set(finding.reason, reasons.get(finding.reason) ?? reasons.size + 1)
    return String(reasons.get(finding.reason))
  }
  const table = [
    ['path', ...rules.map(({ name }) => name)],
    ...paths.map((path) => [path.name, ...rules.map((rule) => mark(found.get(`${path.name} × ${rule.name}`)))]),
  ]
  const text = `# Path × rule

Every way that accepts a code or a token, held to every rule over HTTP, on SQLite and on PostgreSQL, by
\`npx vitest run test/http/matrix.test.ts\`, which also writes this page (\`-u\`) and fails when it is not what was found.

✓: the rule was seen to hold on that path, on both databases. A number: there is nothing for the rule to hold there, and
why. "Rolled back" holds on PostgreSQL only: on SQLite the store takes part in no transaction of the host's.

${tableText(table)}

${[...reasons].map(([reason, number]) => `${number}. ${reason}`).join('\n')}

## The rules

${rules.map(({ name, sentence }) => `- **${name}**: ${sentence}`).join('\n')}
`
  await expect(text).toMatchFileSnapshot('../../docs/path-rule-matrix.md')
})

/** A Markdown table as the formatter writes it. */
function tableText(rows: readonly string[][]): string {
  const [heads = []] = rows
  const widths = heads.map((_, column) => Math.max(3, ...rows.map((cells) => (cells[column] ?? '').length)))
  const lines = rows.map((cells) => `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 3)).join(' | ')} |`)
  const rule = `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`
  return [lines[0], rule, ...lines.slice(1)].join('\n')
}
