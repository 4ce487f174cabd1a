"""Text from elsewhere, as one line that harms nobody.

visible: Text that somebody else wrote, as it may be shown in a terminal, a page or a spreadsheet.
told: An error of the user's code as one line: what it says, in which file, at which line.
"""
