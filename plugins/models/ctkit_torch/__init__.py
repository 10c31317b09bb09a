"""The torch toolbox below reducers, methods and tasks. Modules are imported by name, those that need torch on use."""
