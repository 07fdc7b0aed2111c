// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract ProviderRegistryFinishRotation is Network {
    address private next = makeAddr("next");

    function test_finishRotation__after_the_thaw__replaces_the_key_and_keeps_the_old_attributable() public {
        _joinProvider();
        vm.startPrank(owner);
        providers.startRotation(next);
        assertEq(providers.rotationOf(owner).operator, next);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.StillThawing.selector, uint64(block.timestamp) + 100));
        providers.finishRotation();
        skip(100);
        providers.finishRotation();
        vm.stopPrank();
        assertEq(providers.providerInfo(owner).operator, next);
        assertEq(providers.providerOfOperator(operator), address(0));
        assertEq(providers.providerOf(operator), owner);
        assertEq(providers.providerOfOperator(next), owner);
        vm.prank(operator);
        vm.expectRevert(abi.encodeWithSelector(ICommitmentLog.NotOperator.selector, operator));
        commitments.anchor("root", 1, 1, 1, 1);
    }

    function test_finishRotation__key_taken_meanwhile__reverts() public {
        _joinProvider();
        vm.prank(owner);
        providers.startRotation(next);
        _stake(payer, STAKE);
        vm.prank(payer);
        providers.register(next, "x", 0);
        skip(100);
        vm.prank(owner);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.OperatorTaken.selector, next));
        providers.finishRotation();
    }
}
