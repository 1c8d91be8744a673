import { existsSync } from 'node:fs'
import ts from 'typescript'
import { describe, expect, test } from 'vitest'
import { codesIn, ROOT, readText } from './markdown.ts'

const named = new Map<string, Set<string>>()

/** The names of the tests and groups of a file; of the cases of a store, their sentences. */
function namesIn(file: string): Set<string> {
  const known = named.get(file)
  if (known) return known
  const names = new Set<string>()
  const tree = ts.createSourceFile(file, readText(file), ts.ScriptTarget.ES2023, true)
  const visit = (node: ts.Node): void => {
    if (ts.isCallExpression(node) && /^(test|describe)$/.test(calledIn(node))) {
      const [name] = node.arguments
      if (name && ts.isStringLiteralLike(name)) names.add(name.text)
    }
    if (ts.isMethodDeclaration(node) && ts.isStringLiteral(node.name)) names.add(node.name.text)
    ts.forEachChild(node, visit)
  }
  visit(tree)
  named.set(file, names)
  return names
}

/** `test` of `test(…)`, `test.each(…)(…)` and the like. */
function calledIn(node: ts.Expression): string {
  if (ts.isCallExpression(node) || ts.isPropertyAccessExpression(node)) return calledIn(node.expression)
  return ts.isIdentifier(node) ? node.text : ''
}

/** What a text names: `file` “test” “another one of the same file”, the lines of a paragraph taken as one. */
function testsNamedIn(text: string): { file: string; name: string }[] {
  const found: { file: string; name: string }[] = []
  let file = ''
  for (const [, code, name] of text.replaceAll(/\s+/g, ' ').matchAll(/`([\w./-]+\.ts)`|“([^”]+)”/g)) {
    if (code !== undefined) file = code
    else found.push({ file, name: String(name) })
  }
  return found
}

const DOCUMENTS = ['docs/spec-map.md', 'docs/threat-model.md']

describe.each(DOCUMENTS)('%s', (document) => {
  test('names files that are there', () => {
    const files = codesIn(readText(document).replaceAll(/\s+/g, ' ')).filter((code) => /^[\w./-]+\.(ts|md)$/.test(code))
    expect(files.length).toBeGreaterThan(40)
    expect(files.filter((file) => !existsSync(ROOT + file))).toEqual([])
  })

  test('names tests that are there, in the files that it says', () => {
    const tests = testsNamedIn(readText(document))
    expect(tests.length).toBeGreaterThan(30)
    expect(tests.filter(({ file, name }) => !namesIn(file).has(name))).toEqual([])
  })
})

test('each requirement in docs/spec-map.md names where it is kept and by which test, or says why not', () => {
  const entries = readText('docs/spec-map.md')
    .split(/\n(?=- )|\n\n/)
    .filter((block) => block.startsWith('- '))
    .map((block) => block.trim().replaceAll(/\s+/g, ' '))
  expect(entries.length).toBeGreaterThan(90)
  for (const entry of entries) {
    expect(entry).toMatch(/^- \*\*[^*]+\*\* .+\.$/)
    const isElsewhere = /\. \*\*(Not met\*\*, (because|for) .+|The host\*\*: .+)\.$/.test(entry)
    const isKept = codesIn(entry).some((code) => !code.includes('test') && existsSync(ROOT + code))
    expect(isElsewhere || isKept, entry).toBe(true)
    expect(testsNamedIn(entry).length > 0, entry).toBe(!isElsewhere)
  }
})

test('each promise of docs/threat-model.md names the file that keeps it and the test that holds it', () => {
  const sections = readText('docs/threat-model.md').split('\n## ').slice(1)
  const promised = sections
    .filter((section) => !section.startsWith('Out of scope'))
    .flatMap((section) => String(section.split('\n\nNot promised')[0]).split(/\n(?=- )|\n\n/))
    .filter((block) => block.startsWith('- **'))
  expect(promised.length).toBeGreaterThan(30)
  for (const promise of promised) {
    expect(testsNamedIn(promise).length, promise).toBeGreaterThan(0)
    expect(
      codesIn(promise).some((code) => /^src\/.*(?<!\.test)\.ts$/.test(code)),
      promise,
    ).toBe(true)
  }
})

test('a test or a file that is not there is found missing', () => {
  const [wrong] = testsNamedIn('`test/spec-map.test.ts` “no such test”')
  expect(namesIn('test/spec-map.test.ts').has(String(wrong?.name))).toBe(false)
  expect(namesIn('test/spec-map.test.ts').has('names files that are there')).toBe(true)
  expect(namesIn('src/testing/store-cases/spending.ts').size).toBeGreaterThan(5)
})
