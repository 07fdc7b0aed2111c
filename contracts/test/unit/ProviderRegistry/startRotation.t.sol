// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract ProviderRegistryStartRotation is Network {
    address private next = makeAddr("next");

    function test_startRotation__to_a_taken_key_or_of_nobody__reverts() public {
        _joinProvider();
        vm.startPrank(owner);
        vm.expectRevert(IProviderRegistry.NoRotation.selector);
        providers.finishRotation();
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.OperatorTaken.selector, operator));
        providers.startRotation(operator);
        vm.stopPrank();
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NotRegistered.selector, address(this)));
        providers.startRotation(next);
    }
}
