"""What the embedded API is compared with: the same resource, built with Django REST framework and
drf-exceptions-hog.

`reference` is the small application, `comparing` asks it and ours the same, and says where the answers
differ.
"""
