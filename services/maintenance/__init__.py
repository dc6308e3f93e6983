"""The maintenance service: what has to happen by the clock, for projects without pg_cron and for files in storage."""
