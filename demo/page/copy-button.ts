import { announce, el } from './dom.ts'

const CONFIRMED_FOR_MS = 2500

interface CopyOptions {
  action: string
  label: string
  text: string
  /** Where a page may not write to the clipboard (no HTTPS), this is selected for the person to copy. */
  shown: HTMLElement
  /** Called when the text was copied or selected. */
  onCopy?: () => void
}

export function copyButton({ action, label, text, shown, onCopy = () => {} }: CopyOptions): HTMLButtonElement {
  const button = el('button', { type: 'button', 'data-action': action, onclick: copy }, label)

  async function copy(): Promise<void> {
    try {
      await navigator.clipboard.writeText(text)
      say('Copied')
    } catch {
      getSelection()?.selectAllChildren(shown)
      say('Press Ctrl + C or ⌘ + C')
    }
    onCopy()
  }

  /** Instead of the label, so that no other button moves. */
  function say(outcome: string): void {
    button.textContent = outcome
    announce(outcome)
    setTimeout(() => {
      button.textContent = label
    }, CONFIRMED_FOR_MS)
  }

  return button
}
