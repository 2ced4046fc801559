"""PushT: a robot pushes a T into place, by a policy that draws its actions as other runs draw images (Section 4.5)."""
