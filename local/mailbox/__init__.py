"""The mailbox of the embedded stack: takes every mail by SMTP, delivers none, and shows them on a page.

`folder` keeps them, `smtp` takes them, `reading` reads them, `pages` shows them; `process` is the part of the stack.
Mails are hostile: nothing in one chooses a name on the disk or runs in the page.
"""
