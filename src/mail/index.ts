export { mailNotices } from './mail-notices.ts'
export { type MailTransport, nodemailerSender, type SenderOptions } from './nodemailer.ts'
export type { Notice, NoticeKind, SendNotice } from './notice.ts'
export type { Mail, MailTemplates } from './templates.ts'
