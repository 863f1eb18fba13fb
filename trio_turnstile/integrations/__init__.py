"""What connects runs with other libraries, one module for each; see its extra in pip."""
