// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ModelRegistryDeprecate} from "./deprecate.t.sol";
import {ModelRegistryRegister} from "./register.t.sol";
import {ModelRegistryTolerance} from "./tolerance.t.sol";

/// @notice All of the contract's functions in one: a test contract costs seconds to compile.
contract ModelRegistryTest is ModelRegistryDeprecate, ModelRegistryRegister, ModelRegistryTolerance {}
