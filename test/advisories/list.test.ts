import ts from 'typescript'
import { expect, test } from 'vitest'
import { filesUnder, readText } from '../markdown.ts'

const FOLDER = 'test/advisories'
const files = filesUnder(FOLDER, '.test.ts').filter((file) => file !== 'list.test.ts')

/** The names of the tests of a file, in order. */
function testsOf(file: string): string[] {
  const tree = ts.createSourceFile(file, readText(`${FOLDER}/${file}`), ts.ScriptTarget.ES2023, true)
  return tree.statements.flatMap((statement) => {
    if (!ts.isExpressionStatement(statement) || !ts.isCallExpression(statement.expression)) return []
    const { expression, arguments: given } = statement.expression
    return expression.getText(tree) === 'test' && given[0] && ts.isStringLiteral(given[0]) ? [given[0].text] : []
  })
}

/** The entries of the list under the paragraph that names the file; of all, when none is named. */
function entriesOf(file?: string): { advisory: string; what: string; rule: string }[] {
  const text = readText('docs/advisories.md')
  const section = file === undefined ? text : (text.split(`\`${FOLDER}/${file}\`\n`)[1]?.split('\n## ')[0] ?? '')
  const lines = section.replaceAll(/\n {2}(?=\S)/g, ' ').split('\n')
  const items = lines.filter((line) => line.startsWith('- '))
  return items.map((item) => {
    const [, advisory, what, rule] = /^- \*\*(.+?)\*\*: (.+) Rule: (.+)\.$/.exec(item) ?? []
    return { advisory: String(advisory), what: String(what), rule: String(rule) }
  })
}

test.each(files)('docs/advisories.md lists the tests of %s, and nothing that is not tested', (file) => {
  const entries = entriesOf(file)
  expect(entries.map(({ advisory, rule }) => `${advisory}: ${rule}`)).toEqual(testsOf(file))
  for (const { advisory, what } of entries) expect(what, advisory).toMatch(/^[A-Z].+\.$/)
})

test('no file and no entry of the list is left out', () => {
  const begun = files.map((file) => (readText(`${FOLDER}/${file}`).match(/^ *test\b/gm) ?? []).length)
  expect(entriesOf()).toHaveLength(begun.reduce((sum, count) => sum + count, 0))
  expect(entriesOf()).toHaveLength(files.flatMap(testsOf).length)
  expect(entriesOf().length).toBeGreaterThan(50)
})

test('no advisory stands in the list twice', () => {
  const text = entriesOf()
    .map(({ advisory }) => advisory)
    .join(' ')
  const ids = text.match(/\b(CVE-\d{4}-\d+|GHSA(-\w{4}){3}|SA-CONTRIB-\d{4}-\d+)\b/g) ?? []
  expect(ids.length).toBeGreaterThan(60)
  expect(new Set(ids).size).toBe(ids.length)
})
