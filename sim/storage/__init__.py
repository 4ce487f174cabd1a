"""Files that are written whole and read checked.

files: Files that appear whole or not at all, and what a crash has left of others.
journal: Files of one record per line, appended as work is done, each with a digest of its own.
locks: Locks on files and folders, which the system releases however a process ends.
table_files: Tables that only programs write: a note and a digest per column, checked when they are
  read.
inputs: Files that are read: regular ones, and pipes that somebody writes to.
"""
