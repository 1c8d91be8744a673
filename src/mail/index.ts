export { type MailTransport, nodemailerSender, type SenderOptions } from './nodemailer.ts'
export type { Notification, NotificationKind, SendNotification } from './notification.ts'
export { type NotifyOptions, notifyByMail } from './notify-by-mail.ts'
export type { Mail, MailTemplates } from './templates.ts'
